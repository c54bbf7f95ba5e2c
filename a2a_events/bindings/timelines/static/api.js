// Requests to the service that this page came from, and nobody else.

export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

function address(path, params) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params ?? {})) {
    if (value !== undefined && value !== null && value !== "" && value !== false) query.set(name, String(value));
  }
  const text = query.toString();
  return `/api/${path}${text ? `?${text}` : ""}`;
}

/** The address of something that belongs to a task. */
export const ofTask = (id, path = "") => `tasks/${encodeURIComponent(id)}${path}`;

export const href = address;

export async function get(path, params, signal) {
  return answer(await reached(address(path, params), { signal, headers: { accept: "application/json" } }));
}

export async function post(path, body) {
  const headers = { "content-type": "application/json", accept: "application/json" };
  return answer(await reached(address(path), { method: "POST", headers, body: JSON.stringify(body) }));
}

async function reached(url, how) {
  try {
    return await fetch(url, how);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The timeline service does not answer. Is it running?");
  }
}

async function answer(response) {
  if (response.ok) return response.json();
  let detail = `The service answered ${response.status}.`;
  try {
    detail = (await response.json()).detail ?? detail;
  } catch {
    // not ours: the status says what there is to say
  }
  throw new Problem(response.status, detail);
}

const AGAIN_MILLISECONDS = 2000;

/**
 * Server-sent events, for as long as somebody looks: a browser has few connections to one host, and windows that are
 * not seen leave them to the others. Whenever a stream begins anew, `params` says where to go on. `on` maps names of
 * events to functions of data and id, `message` being the usual ones, and `open` and `error` to what they say.
 */
export function listen(path, params, on) {
  let source;
  let timer = 0;
  const stop = () => {
    clearTimeout(timer);
    source?.close();
  };
  const begin = () => {
    stop();
    if (document.hidden) return;
    source = new EventSource(address(path, params()));
    for (const [name, call] of Object.entries(on)) {
      if (name !== "open" && name !== "error") source.addEventListener(name, (event) => call(JSON.parse(event.data), event.lastEventId));
    }
    source.addEventListener("open", () => on.open?.());
    source.addEventListener("error", (event) => {
      on.error?.();
      if (event.target.readyState === EventSource.CLOSED) timer = setTimeout(begin, AGAIN_MILLISECONDS); // it was refused
    });
  };
  document.addEventListener("visibilitychange", begin);
  begin();
  return {
    close() {
      document.removeEventListener("visibilitychange", begin);
      stop();
    },
  };
}
