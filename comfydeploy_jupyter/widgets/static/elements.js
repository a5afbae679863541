// Elements and words for the scripts of the transfers, the models and downloads.

function make(tag, fields = {}, ...children) {
  const element = Object.assign(document.createElement(tag), fields);
  element.append(...children);
  return element;
}

function button(text, act, ...classes) {
  const made = make("button", { type: "button", textContent: text });
  made.className = ["jupyter-widgets", "jupyter-button", "comfydeploy-button", ...classes].join(" ");
  made.addEventListener("click", act);
  return made;
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function human(size) {
  let value = size;
  for (const unit of ["B", "KiB", "MiB"]) {
    if (value < 1024) return unit === "B" ? `${Math.round(value)} B` : `${value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
  return `${value.toFixed(1)} GiB`;
}

// Put a text on the clipboard, and say so on the button.
async function copyText(text, control) {
  const label = control.textContent;
  try {
    if (navigator.clipboard && window.isSecureContext) await navigator.clipboard.writeText(text);
    else copyBySelection(text);
    control.textContent = "Copied";
  } catch {
    control.textContent = "Not copied";
  }
  setTimeout(() => (control.textContent = label), 1500);
}

// Pages that come over plain HTTP from another host have no other clipboard.
function copyBySelection(text) {
  const area = make("textarea", { value: text });
  area.style.cssText = "position: fixed; opacity: 0";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("the browser refuses");
}
