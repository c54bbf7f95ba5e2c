// Dark and light: as the system has it, or as was chosen here.

import { byId } from "./dom.js";

const KEY = "timelines.theme";
const NEXT = { auto: "dark", dark: "light", light: "auto" };

function chosen() {
  try {
    return localStorage.getItem(KEY) ?? "auto";
  } catch {
    return "auto"; // no storage: as the system has it
  }
}

function show(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  const button = byId("theme");
  button.textContent = { auto: "Auto", dark: "Dark", light: "Light" }[theme];
  button.setAttribute("aria-label", `Colours: ${theme}. Change to ${NEXT[theme]}`);
}

export function begin() {
  show(chosen());
  byId("theme").addEventListener("click", () => {
    const theme = NEXT[chosen()];
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // it holds for this page only
    }
    show(theme);
  });
}
