/** A picture with a button over each face. Arrow keys go from face to face; Enter, Space or a click chooses one. */
export default function ({ parentElement, data, setTriggerValue }) {
  const root = parentElement.querySelector(".root");
  if (!root.firstChild) root.append(document.createElement("img"));
  const image = root.firstChild;
  if (image.src !== data.picture) image.src = data.picture;
  const count = data.faces.length;
  image.alt = `The picture, with ${count} ${count === 1 ? "face" : "faces"}`;
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "Faces in the picture");
  root.style.aspectRatio = data.ratio;
  root.style.maxWidth = `calc(75vh * ${data.ratio})`;

  // Buttons are kept from one run to the next, or the focus would be lost.
  const buttons = [...root.querySelectorAll("button")];
  while (buttons.length > count) buttons.pop().remove();
  while (buttons.length < count) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(document.createElement("span"));
    root.append(button);
    buttons.push(button);
  }
  buttons.forEach((button, i) => {
    const face = data.faces[i];
    for (const side of ["left", "top", "width", "height"]) button.style[side] = `${100 * face[side]}%`;
    button.classList.toggle("unknown", !face.known);
    button.classList.toggle("below", face.top < 0.08);
    button.classList.toggle("leftwards", face.left > 0.7);
    button.firstChild.textContent = face.label;
    button.setAttribute("aria-label", `Face ${i + 1}: ${face.label}`);
    button.setAttribute("aria-pressed", String(i === data.chosen));
    button.onclick = () => setTriggerValue("chosen", i);
    button.onkeydown = (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      buttons[(i + step + count) % count].focus();
    };
  });
}
