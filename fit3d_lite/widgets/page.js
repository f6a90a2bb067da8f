// The widgets' life in a page: sliders, points to turn, photos to click on. It needs no kernel, no network, no library.
// Every output carries this file whole, since Colab gives each one a page of its own; a widget that lives already is left
// alone, so it may run any number of times. widgets/page.py takes out comments and indentation, and writes the data-…
// attributes that are read here.
(() => {
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

// Frames: one at a time under a slider, or all side by side.
const frames = box => {
  const shots = [...box.querySelectorAll('figure')];
  const [range, play, all] = box.querySelectorAll('.f3d-bar input,button'), said = box.querySelector('output');
  let spread = false, timer = null;
  const draw = () => {
    shots.forEach((shot, i) => {
      const on = i == range.value, label = shot.lastElementChild;
      shot.style.display = spread || on ? '' : 'none';
      shot.style.maxWidth = spread ? '' : '100%';
      label.style.display = spread ? '' : 'none';
      if (on) said.textContent = label.textContent;
    });
    all.textContent = spread ? 'one' : 'all';
    play.textContent = timer ? 'stop' : 'play';
  };
  const halt = () => { clearInterval(timer); timer = null; };
  const next = () => { range.value = (+range.value + 1) % shots.length; draw(); };
  range.oninput = () => { halt(); spread = false; draw(); };
  all.onclick = () => { halt(); spread = !spread; draw(); };
  play.onclick = () => {
    if (timer) halt();
    else { spread = false; timer = setInterval(next, 1000 * box.dataset.seconds); }
    draw();
  };
  draw();
};

// Points: the unit of length is their radius, z is up, and the eye looks at the origin from the distance `far`.
// _still of points.py draws by the same formulas.
const points = box => {
  const {W, H, focal, reach, dot, low, high, view} = JSON.parse(box.dataset.shape);
  const codes = new Uint16Array(bytes(box.dataset.places).buffer), count = codes.length / 3;
  const place = Float32Array.from(codes, c => (c / 32767.5 - 1) * reach);
  const buttons = [...box.querySelectorAll('button')], paints = buttons.map(b => bytes(b.dataset.colors));
  const canvas = box.querySelector('canvas'), context = canvas.getContext('2d');
  const shot = context.createImageData(W, H), pixels = new Uint32Array(shot.data.buffer), nearest = new Float32Array(W * H);
  const [front, top] = box.querySelectorAll('input');
  let {yaw, pitch, far} = view, shown = 0, waiting = false;
  const draw = () => {
    waiting = false;
    pixels.fill(0); nearest.fill(1e9);
    const cy = Math.cos(yaw), sy = Math.sin(yaw), cp = Math.cos(pitch), sp = Math.sin(pitch), paint = paints[shown];
    const start = Math.max(0.05, front.value > 0 ? far - 1 + +front.value : 0), roof = high - top.value * (high - low);
    for (let i = 0; i < count; i++) {
      const x = place[3 * i], y = place[3 * i + 1], z = place[3 * i + 2];
      const depth = far - cp * cy * x - cp * sy * y - sp * z;
      if (depth < start || (top.value > 0 && z > roof)) continue;
      const u = W / 2 + focal * (cy * y - sy * x) / depth, v = H / 2 + focal * (sp * (cy * x + sy * y) - cp * z) / depth;
      const half = clamp(dot * focal / depth, 1, 14) / 2;
      const l = Math.max(0, Math.round(u - half)), r = Math.min(W, Math.round(u + half));
      const t = Math.max(0, Math.round(v - half)), b = Math.min(H, Math.round(v + half));
      const color = 0xff000000 | paint[3 * i + 2] << 16 | paint[3 * i + 1] << 8 | paint[3 * i];
      for (let q = t; q < b; q++) for (let p = l; p < r; p++)
        if (depth < nearest[q * W + p]) { nearest[q * W + p] = depth; pixels[q * W + p] = color; }
    }
    context.putImageData(shot, 0, 0);
    buttons.forEach((b, i) => b.style.background = i == shown ? 'rgba(128,128,128,.35)' : 'none');
  };
  const soon = () => { if (!waiting) { waiting = true; requestAnimationFrame(draw); } };
  const turn = (a, b) => { yaw += a; pitch = clamp(pitch + b, -1.55, 1.55); soon(); };
  const come = factor => { far = clamp(far * factor, 0.1, 12); soon(); };
  canvas.onpointerdown = e => canvas.setPointerCapture(e.pointerId);
  canvas.onpointermove = e => { if (e.buttons) turn(-e.movementX / 150, e.movementY / 150); };
  canvas.onwheel = e => { e.preventDefault(); come(Math.exp(e.deltaY / 900)); };
  canvas.onkeydown = e => {
    const step = {ArrowLeft: [.1, 0], ArrowRight: [-.1, 0], ArrowUp: [0, .1], ArrowDown: [0, -.1]}[e.key];
    if (step) { e.preventDefault(); turn(...step); }
    if (e.key == '+') come(.9);
    if (e.key == '-') come(1.1);
  };
  buttons.forEach((b, i) => b.onclick = () => { shown = i; soon(); });
  front.oninput = top.oninput = soon;
  box.querySelector('img').style.display = 'none';
  canvas.style.display = 'block';
  draw();
};

// What photos to click on share: a grid of h × w patches, maps laid over a photo, marks on it.
const onPatch = (photo, {h, w}, ask) => {
  const cell = (x, n) => clamp(Math.floor(x * n), 0, n - 1);
  photo.style.cursor = 'crosshair';
  photo.onclick = event => {
    const at = photo.getBoundingClientRect();
    ask(cell((event.clientY - at.top) / at.height, h), cell((event.clientX - at.left) / at.width, w));
  };
};
const over = (photo, tag, style) => {
  const made = document.createElement(tag);
  made.style = 'position:absolute;pointer-events:none;box-sizing:border-box;' + style;
  photo.parentElement.append(made);
  return made;
};
const move = (mark, x, y) => { mark.style.left = 100 * x + '%'; mark.style.top = 100 * y + '%'; };
const mapOver = (photo, {h, w}, ramp, strength) => {
  const layer = over(photo, 'canvas', 'inset:0;width:100%;height:100%;image-rendering:pixelated');
  layer.width = w; layer.height = h;
  const context = layer.getContext('2d'), shot = context.createImageData(w, h);
  // value(i) of patch i in 0..1; the patch `marked` is red
  return (value, marked) => {
    for (let i = 0; i < h * w; i++) {
      const k = 3 * Math.round(255 * value(i));
      shot.data.set(i == marked ? [255, 0, 80, 255] : [...ramp.subarray(k, k + 3), strength.value * 2.55], 4 * i);
    }
    context.putImageData(shot, 0, 0);
  };
};
// From short codes, one a patch, to the cosine of two patches.
const cosineOf = (text, patches) => {
  const codes = new Int8Array(bytes(text).buffer), dims = codes.length / patches;
  return (a, b) => {
    let ab = 0, aa = 0, bb = 0;
    for (let k = 0; k < dims; k++) {
      const x = codes[a * dims + k], y = codes[b * dims + k];
      ab += x * y; aa += x * x; bb += y * y;
    }
    return ab / Math.sqrt(aa * bb || 1);
  };
};

// Similarity of all patches to the clicked one: a row of photos a model, the n-th photo of every row is the same view.
const click = box => {
  const shape = JSON.parse(box.dataset.shape), {views, h, w} = shape, ramp = bytes(box.dataset.ramp);
  const strength = box.querySelector('input'), said = box.querySelector('output');
  const models = [...box.querySelectorAll('.f3d-model')].map(row => {
    const photos = [...row.querySelectorAll('img')];
    photos.forEach((photo, v) => onPatch(photo, shape, (r, c) => { asked = [v, r, c]; draw(); }));
    return {cosine: cosineOf(row.dataset.codes, views * h * w), maps: photos.map(p => mapOver(p, shape, ramp, strength))};
  });
  let asked = [shape.view, shape.row, shape.col];
  const draw = () => {
    const [view, row, col] = asked, at = row * w + col, n = h * w;
    models.forEach(({cosine, maps}) => maps.forEach((map, v) =>
      map(i => Math.max(0, cosine(view * n + at, v * n + i)), v == view ? at : -1)));
    said.textContent = `view ${view}, row ${row}, col ${col}`;
  };
  strength.oninput = draw;
  draw();
};

// The distribution over depths at the clicked patch, as bars.
const bins = box => {
  const shape = JSON.parse(box.dataset.shape), {h, w, groups, edges} = shape;
  const codes = bytes(box.dataset.codes), [mean, truth] = JSON.parse(box.dataset.depths);
  const photo = box.querySelector('img'), said = box.querySelector('output'), chart = box.querySelector('canvas');
  const spot = over(photo, 'div', `width:${100 / w}%;height:${100 / h}%;border:2px solid #fff;outline:2px solid #000`);
  const pen = chart.getContext('2d'), W = chart.width, H = chart.height - 22;
  const x = depth => (depth - edges[0]) / (edges[groups] - edges[0]) * W;
  const line = (depth, color, dash) => {
    if (depth <= 0) return;
    pen.strokeStyle = color; pen.lineWidth = 2.5; pen.setLineDash(dash); pen.beginPath();
    pen.moveTo(x(depth), 0); pen.lineTo(x(depth), H); pen.stroke();
  };
  const draw = (row, col) => {
    const at = row * w + col, bars = codes.subarray(at * groups, (at + 1) * groups), top = Math.max(1, ...bars);
    move(spot, col / w, row / h);
    pen.fillStyle = '#fff'; pen.fillRect(0, 0, W, chart.height);
    pen.fillStyle = '#56B4E9';
    bars.forEach((bar, g) => {
      const high = H * 0.9 * bar / top;
      pen.fillRect(x(edges[g]) + 0.5, H - high, x(edges[g + 1]) - x(edges[g]) - 1, high);
    });
    line(mean[at], '#D55E00', []); line(truth[at], '#000', [7, 4]);
    pen.fillStyle = '#000'; pen.font = '13px system-ui, sans-serif'; pen.textAlign = 'center';
    const whole = Math.floor(edges[groups]), step = Math.max(1, Math.round(whole / 6));
    for (let m = Math.ceil(edges[0]); m <= whole; m += step) pen.fillText(m + ' m', clamp(x(m), 14, W - 16), H + 17);
    const known = truth[at] > 0 ? truth[at].toFixed(2) + ' m' : 'unknown';
    said.textContent = `row ${row}, col ${col}: mean ${mean[at].toFixed(2)} m (orange), truth ${known} (dashed)`;
  };
  onPatch(photo, shape, draw);
  chart.style.display = 'block';
  draw(shape.row, shape.col);
};

// The clicked patch of one view looked for in another, by each model; truth[patch] is its true place there, in pixels.
const match = box => {
  const shape = JSON.parse(box.dataset.shape), {h, w, height, width} = shape, n = h * w;
  const truth = JSON.parse(box.dataset.truth), ramp = bytes(box.dataset.ramp), strength = box.querySelector('input');
  const ring = 'width:18px;height:18px;margin:-9px;border:2px solid #fff;border-radius:50%;outline:2px solid #000';
  const square = 'width:12px;height:12px;margin:-6px;border:2px solid #fff;outline:2px solid #000;background:#D55E00';
  const models = [...box.querySelectorAll('.f3d-model')].map(panel => {
    const photo = panel.querySelector('img'), cosine = cosineOf(panel.dataset.codes, 2 * n);
    const map = mapOver(photo, shape, ramp, strength), here = over(photo, 'div', ring), found = over(photo, 'div', square);
    return {cosine, map, here, found, said: panel.querySelector('output')};
  });
  const photo = box.querySelector('img'), spot = over(photo, 'div', ring);
  const middle = i => [(i % w + 0.5) / w, (Math.floor(i / w) + 0.5) / h];
  let asked = shape.row * w + shape.col;
  const draw = () => {
    const at = truth[asked];
    move(spot, ...middle(asked));
    models.forEach(({cosine, map, here, found, said}) => {
      const like = Array.from({length: n}, (_, i) => cosine(asked, n + i)), top = Math.max(...like), low = Math.min(...like);
      const [x, y] = middle(like.indexOf(top));
      map(i => (like[i] - low) / (top - low || 1));
      move(found, x, y);
      here.hidden = !at;
      if (at) move(here, at[0] / width, at[1] / height);
      said.textContent = at ? Math.hypot(x * width - at[0], y * height - at[1]).toFixed(0) + ' px off' : 'not in view';
    });
  };
  onPatch(photo, shape, (row, col) => { asked = row * w + col; draw(); });
  strength.oninput = draw;
  draw();
};

// A quiz: answers fold out by themselves; here the first one that is opened of each question counts.
const quiz = box => {
  const questions = [...box.querySelectorAll('.f3d-question')], said = box.querySelector('output'), first = new Map();
  const draw = () => {
    const right = [...first.values()].filter(x => x).length;
    said.textContent = `${right} right at the first try, ${first.size} of ${questions.length} answered`;
  };
  questions.forEach(question => question.querySelectorAll('details').forEach(answer => answer.ontoggle = () => {
    if (answer.open && !first.has(question)) first.set(question, answer.dataset.right == 1);
    draw();
  }));
  draw();
};

for (const [name, live] of Object.entries({frames, points, click, bins, match, quiz}))
  document.querySelectorAll(`.f3d-${name}:not([data-on])`).forEach(box => {
    box.dataset.on = 1;
    box.querySelector('.f3d-bar').style.display = 'flex';
    live(box);
  });
})();
