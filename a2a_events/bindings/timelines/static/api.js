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

/** Server-sent events; `on` maps their names to functions of data and id, `message` being the usual ones. */
export function listen(path, params, on) {
  const source = new EventSource(address(path, params));
  for (const [name, call] of Object.entries(on)) {
    if (name === "open" || name === "error") continue;
    source.addEventListener(name, (event) => call(JSON.parse(event.data), event.lastEventId));
  }
  source.addEventListener("open", () => on.open?.());
  source.addEventListener("error", () => on.error?.(source.readyState === EventSource.CLOSED));
  return source;
}
