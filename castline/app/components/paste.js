/** A picture from the clipboard, by a button or by Ctrl+V anywhere on the page. */
export default function ({ parentElement, data, setTriggerValue }) {
  const root = parentElement.querySelector(".root");
  if (!root.firstChild) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = "Paste a picture";
    const told = document.createElement("span");
    told.setAttribute("role", "status");
    root.append(made, told);
  }
  const [button, status] = root.children;
  const say = (words) => (status.textContent = words);
  say("");

  const take = (file) => {
    if (file.size > data.megabytes * 1e6) {
      say(`The picture has ${(file.size / 1e6).toFixed(1)} MB. The limit is ${data.megabytes} MB.`);
      return;
    }
    const reader = new FileReader();
    reader.onload = () =>
      setTriggerValue("pasted", { name: file.name || "pasted.png", data: reader.result.split(",")[1] ?? "" });
    reader.readAsDataURL(file);
    say("Taken.");
  };

  button.onclick = async () => {
    try {
      for (const item of await navigator.clipboard.read()) {
        const type = item.types.find((one) => one.startsWith("image/"));
        if (type) return take(await item.getType(type));
      }
      say("There is no picture in the clipboard.");
    } catch {
      say("The browser does not let the page read the clipboard. Press Ctrl+V (⌘V) instead.");
    }
  };

  const onPaste = (event) => {
    if (event.target?.closest?.("input, textarea, [contenteditable]")) return;
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    take(file);
  };
  if (root.onPaste) document.removeEventListener("paste", root.onPaste);
  root.onPaste = onPaste;
  document.addEventListener("paste", onPaste);
  return () => document.removeEventListener("paste", root.onPaste);
}
