// Elements. Text only ever becomes a text node: nothing that an agent or a client wrote is read as markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; strings become text. */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return made;
}

/** A function that does its asynchronous work for the newest argument only, one at a time. */
export function latest(work) {
  let busy = false;
  let waiting;
  return async function ask(...wanted) {
    waiting = wanted;
    if (busy) return;
    busy = true;
    try {
      while (waiting) {
        const now = waiting;
        waiting = undefined;
        await work(...now);
      }
    } finally {
      busy = false;
    }
  };
}

/** Call at most once in a while, the last time included. */
export function seldom(milliseconds, call) {
  let timer = 0;
  return (...args) => {
    if (timer) return;
    timer = setTimeout(() => {
      timer = 0;
      call(...args);
    }, milliseconds);
  };
}
