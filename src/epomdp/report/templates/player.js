"use strict";
// Chooses one image and one step out of what the page already shows whole.
(() => {
  const root = document.documentElement;
  const player = document.getElementById("player");
  const data = JSON.parse(document.getElementById("player-data").textContent);
  const articles = [...player.querySelectorAll(".episode")];
  const slider = player.querySelector("input[type=range]");
  const output = player.querySelector("output");
  const play = player.querySelector("[data-go=play]");
  const pace = 900;
  let episode = 0, step = 1, timer = null;

  const percent = (p) => (100 * p).toFixed(1) + "\u00a0%";

  const signed = (value) => (value < 0 ? "\u2212" : "") + Math.abs(value).toFixed(2);

  function drawLane(lane, facts, step) {
    const done = step >= facts.guesses.length;
    const now = Math.min(step, facts.guesses.length) - 1;
    lane.classList.toggle("open", !done);
    lane.querySelector(".ret-now").textContent = signed(-1 - now);
    lane.querySelectorAll(".card").forEach((card, k) => {
      card.classList.toggle("future", k > now);
      card.classList.toggle("latest", k === now);
    });
    const belief = facts.beliefs[now];
    if (!belief) return;
    const tried = new Set(facts.guesses.slice(0, now));
    const full = Number(lane.querySelector(".live .bars").dataset.full);
    lane.querySelectorAll(".live .bar").forEach((bar, k) => {
      bar.style.width = (full * belief[k]).toFixed(2) + "%";
      bar.classList.toggle("chosen", k === facts.guesses[now]);
      bar.parentNode.querySelectorAll(".bar-name")[k].classList.toggle("tried", tried.has(k) && belief[k] === 0);
      bar.parentNode.querySelectorAll(".bar-value")[k].textContent = percent(belief[k]);
    });
    const names = [...lane.querySelectorAll(".bar-name")].map((name) => name.textContent);
    const best = belief.indexOf(Math.max(...belief));
    lane.querySelector(".live desc").textContent =
      "Before guess " + (now + 1) + " most belief is in " + names[best] + ", " + percent(belief[best]) + ".";
  }

  function draw() {
    const steps = Math.max(data[episode].steps, 1);
    step = Math.min(Math.max(step, 1), steps);
    articles.forEach((article, k) => article.classList.toggle("current", k === episode));
    slider.max = steps;
    slider.value = step;
    slider.setAttribute("aria-valuetext", "guess " + step + " of " + steps);
    output.textContent = "guess " + step + " of " + steps;
    articles[episode].querySelectorAll(".lane").forEach((lane, k) => drawLane(lane, data[episode].lanes[k], step));
    if (timer && step >= steps) stop();
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  }

  function start() {
    if (step >= data[episode].steps) step = 1;
    else step += 1;
    play.textContent = "Pause";
    timer = setInterval(() => { step += 1; draw(); }, pace);
    draw();
  }

  function go(where) {
    if (where === "play") return timer ? stop() : start();
    stop();
    step = { first: 1, back: step - 1, next: step + 1, last: Infinity }[where];
    draw();
  }

  player.addEventListener("click", (event) => {
    const button = event.target.closest("[data-go]");
    if (button) go(button.dataset.go);
  });
  slider.addEventListener("input", () => { stop(); step = Number(slider.value); draw(); });
  player.addEventListener("change", (event) => {
    if (event.target.name !== "episode") return;
    stop();
    episode = Number(event.target.value);
    step = 1;
    draw();
  });

  root.classList.add("js");
  player.querySelectorAll(".chooser, .transport").forEach((part) => { part.hidden = false; });
  draw();
})();
