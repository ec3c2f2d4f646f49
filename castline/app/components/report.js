// An empty sandbox: no script runs in the frame, and its origin is nobody's. Its address holds the report itself, so
// that links within the report do not lead to the app, as they would from a srcdoc.
export default function ({ parentElement, data }) {
  const before = parentElement.querySelector("iframe");
  if (before?.src === data.address) {
    before.title = data.title;
    return;
  }
  const frame = document.createElement("iframe");
  frame.setAttribute("sandbox", "");
  frame.referrerPolicy = "no-referrer";
  frame.title = data.title;
  frame.src = data.address;
  before?.remove();
  parentElement.append(frame);
}
