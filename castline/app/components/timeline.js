/** Bars of who is on screen when, in step with the player beside them. */
const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];

function element(tag, parent, name) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  parent.append(made);
  return made;
}

function clock(seconds) {
  const parts = [Math.floor(seconds / 60) % 60, Math.floor(seconds % 60)].map((part) => String(part).padStart(2, "0"));
  const hours = Math.floor(seconds / 3600);
  return (hours ? `${hours}:${parts[0]}` : String(Number(parts[0]))) + `:${parts[1]}`;
}

export default function ({ parentElement, data }) {
  const root = parentElement.querySelector(".root");
  const length = Math.max(data.length, 0.1);
  // Streamlit puts the key of a container into its class.
  const player = () => document.querySelector(`.st-key-${CSS.escape(data.player)} video`);
  const jump = (seconds) => {
    const video = player();
    if (!video) return;
    video.currentTime = seconds;
    video.play().catch(() => {}); // a browser that cannot play it says so in the player
    follow();
  };

  const described = JSON.stringify([data.rows, data.length]);
  if (root.described !== described) {
    root.described = described;
    build();
  }
  const bars = [...root.querySelectorAll("button")];
  bars.forEach((bar, i) => {
    bar.onclick = (event) => {
      event.stopPropagation();
      jump(Number(bar.dataset.start));
    };
    bar.onkeydown = (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      bars[(i + step + bars.length) % bars.length].focus();
    };
  });
  for (const track of root.querySelectorAll(".track")) {
    track.onclick = (event) => {
      const { left, width } = track.getBoundingClientRect();
      jump(((event.clientX - left) / width) * length);
    };
  }

  function build() {
    root.replaceChildren();
    const rows = element("div", root, "rows");
    rows.setAttribute("role", "group");
    rows.setAttribute("aria-label", "Who is on screen when");
    for (const row of data.rows) {
      const line = element("div", rows, row.known ? "row" : "row unknown");
      const who = element("div", line, "who");
      const still = element("img", who);
      still.src = row.still;
      still.alt = "";
      const name = element("span", who);
      name.textContent = row.label;
      name.title = row.label;
      const track = element("div", line, "track");
      for (const { start, end, label } of row.bars) {
        const bar = element("button", track);
        bar.type = "button";
        bar.dataset.start = start;
        bar.dataset.end = end;
        bar.style.left = `${(100 * start) / length}%`;
        bar.style.width = `${(100 * (end - start)) / length}%`;
        bar.title = label;
        bar.setAttribute("aria-label", `Jump to ${label}`);
      }
    }
    const axis = element("div", root, "axis");
    axis.setAttribute("aria-hidden", "true");
    element("div", axis);
    const ticks = element("div", axis, "ticks");
    const step = steps.find((one) => length / one <= 5) ?? length;
    for (let time = 0; time < length * 0.97; time += step) {
      const tick = element("span", ticks);
      tick.textContent = clock(time);
      tick.style.left = `${(100 * time) / length}%`;
    }
  }

  function follow() {
    const now = player()?.currentTime ?? 0;
    root.style.setProperty("--now", String(Math.min(now / length, 1)));
    for (const bar of bars) bar.classList.toggle("on", Number(bar.dataset.start) <= now && now < Number(bar.dataset.end));
  }
  // The player may come after this, and be put in anew: it is looked for each time.
  clearInterval(root.following);
  root.following = setInterval(follow, 100);
  return () => clearInterval(root.following);
}
