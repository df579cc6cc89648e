// Keys, and nothing that reading needs: every page works without this.
"use strict";

const rows = () => [...document.querySelectorAll("[data-rows] > tbody > tr")];
let chosen = -1;
let going = false;

function choose(at) {
  const all = rows();
  if (!all.length) return;
  chosen = Math.max(0, Math.min(all.length - 1, at));
  all.forEach((row, index) => row.toggleAttribute("data-chosen", index === chosen));
  all.forEach((row, index) => row.setAttribute("aria-selected", String(index === chosen)));
  const link = all[chosen].querySelector("a");
  if (link) link.focus({ preventScroll: true });
  all[chosen].scrollIntoView({ block: "nearest" });
}

function step(key) {
  const link = document.querySelector(`a[data-key="${key}"]`);
  if (link) link.click();
  return Boolean(link);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest("input, textarea, select, dialog");
  if (typing) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const key = event.key;
  if (going) {
    going = false;
    const tab = [...document.querySelectorAll("a[data-go]")].find((one) => one.dataset.go === key);
    if (tab) tab.click();
  } else if (key === "/") {
    const search = document.querySelector("[data-search]");
    if (!search) return;
    search.focus();
  } else if (key === "j") choose(chosen + 1);
  else if (key === "k") choose(chosen - 1);
  else if (key === "g") going = true;
  else if (key === "?") document.getElementById("help").showModal();
  else if (key === "ArrowLeft" || key === "ArrowRight") {
    if (event.target.closest(".scroll, pre") || !step(key)) return;
  } else return;
  event.preventDefault();
});

// What is live is swapped every two seconds: focus and the chosen row stay where they were.
let focused = null;
document.addEventListener("htmx:beforeSwap", (event) => {
  const link = event.target.contains(document.activeElement) ? document.activeElement.closest("a") : null;
  focused = link && link.getAttribute("href");
  if (window.getSelection().toString() && event.target.contains(window.getSelection().anchorNode)) {
    event.detail.shouldSwap = false;
  }
});
document.addEventListener("htmx:afterSettle", () => {
  const link = focused && [...document.querySelectorAll("main a")].find((one) => one.getAttribute("href") === focused);
  if (link) link.focus({ preventScroll: true });
  if (chosen >= 0 && rows()[chosen]) rows()[chosen].setAttribute("aria-selected", "true");
});

// Forms that a change of theirs sends at once: filters, the slider of a replay.
document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-auto]");
  if (form) form.requestSubmit();
});

// Texts that are copied with a button.
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  navigator.clipboard.writeText(button.dataset.copy).then(() => { button.textContent = "Copied"; });
});

// All ticks of a table at once.
document.addEventListener("change", (event) => {
  if (!event.target.matches("input[data-all]")) return;
  document.querySelectorAll(`input[name="${event.target.dataset.all}"]`).forEach((box) => { box.checked = event.target.checked; });
});

// Whatever scrolls in itself can be reached by Tab, and then scrolled with the arrows.
function reachable() {
  document.querySelectorAll(".scroll, pre").forEach((box) => {
    if (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight) box.tabIndex = 0;
  });
}
document.addEventListener("htmx:afterSettle", reachable);
reachable();
