"use strict";
// Draws one step of the chosen level's plays, all at once, from the start and the changes of each step.
(() => {
  const root = document.getElementById("boards");
  const data = JSON.parse(document.getElementById("board-data").textContent);
  const articles = [...root.querySelectorAll(".replay")];
  const slider = root.querySelector("input[type=range]");
  const output = root.querySelector("output");
  const play = root.querySelector("[data-go=play]");
  const pace = 220;
  let level = 0, step = 0, timer = null;

  const signed = (value) => (value < 0 ? "\u2212" : "") + Math.abs(value).toFixed(2);

  // A square for each index of a board, made when its level is first shown.
  function squares(board, facts) {
    if (board.squares) return board.squares;
    const width = board.viewBox.baseVal.width;
    board.squares = facts.start.map((tile, k) => {
      const square = document.createElementNS("http://www.w3.org/2000/svg", "use");
      square.setAttribute("x", k % width);
      square.setAttribute("y", Math.floor(k / width));
      return square;
    });
    board.querySelector("g").replaceChildren(...board.squares);
    return board.squares;
  }

  function drawLane(lane, facts, set) {
    const now = Math.min(step, facts.actions.length);
    const tiles = facts.start.slice();
    for (const changes of facts.changes.slice(0, now))
      for (let k = 0; k < changes.length; k += 2) tiles[changes[k]] = changes[k + 1];
    const board = lane.querySelector(".board");
    squares(board, facts).forEach((square, k) => square.setAttribute("href", "#tile-" + set + "-" + tiles[k]));
    const again = now > 0 && facts.repeated[now - 1] === 1;
    const did = now === 0 ? "start" : "step " + now + ": " + facts.actions[now - 1] + (again ? ", again" : "");
    lane.classList.toggle("open", now < facts.actions.length);
    lane.classList.toggle("again", again);
    lane.querySelector(".did").textContent = did;
    lane.querySelector(".ret-now").textContent = signed(now === 0 ? 0 : facts.returns[now - 1]);
    board.querySelector("title").textContent = lane.querySelector("h3").textContent + ", " + did;
  }

  function draw() {
    const { steps, set, plays } = data[level];
    step = Math.min(Math.max(step, 0), steps);
    articles.forEach((article, k) => article.classList.toggle("current", k === level));
    slider.max = steps;
    slider.value = step;
    output.textContent = "step " + step + " of " + steps;
    slider.setAttribute("aria-valuetext", output.textContent);
    articles[level].querySelectorAll(".lane").forEach((lane, k) => drawLane(lane, plays[k], set));
    if (timer && step >= steps) stop();
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
    output.setAttribute("aria-live", "polite");
  }

  function start() {
    step = step >= data[level].steps ? 0 : step + 1;
    play.textContent = "Pause";
    output.setAttribute("aria-live", "off");
    timer = setInterval(() => { step += 1; draw(); }, pace);
    draw();
  }

  function go(where) {
    if (where === "play") return timer ? stop() : start();
    stop();
    step = { first: 0, back: step - 1, next: step + 1, last: Infinity }[where];
    draw();
  }

  root.addEventListener("click", (event) => {
    const button = event.target.closest("[data-go]");
    if (button) go(button.dataset.go);
  });
  slider.addEventListener("input", () => { stop(); step = Number(slider.value); draw(); });
  root.addEventListener("change", (event) => {
    if (event.target.name !== "replay") return;
    stop();
    level = Number(event.target.value);
    step = 0;
    draw();
  });

  document.documentElement.classList.add("js");
  root.querySelectorAll(".chooser, .transport").forEach((part) => { part.hidden = false; });
  draw();
})();
