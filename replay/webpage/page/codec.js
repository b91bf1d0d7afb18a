// Decodes frames: the counterpart of frame_block.py, plane_codec.py, picture_filters.py, wavelet.py and
// eight_bit.py, in the same whole numbers and the same order of operations.

const HIGHEST = 16383, REACH = 32767, LARGE = 15, HUGE = 255, FINER = [1, 0.5, 0.25], SMALLEST = 4;

function sevenBits(text) { // as `seven_bits` in template.py writes bytes
  const bytes = new Uint8Array(Math.floor(text.length * 7 / 8) + 1);
  let at = 0, held = 0, bits = 0;
  for (let i = 0; i < text.length; i++) {
    let symbol = text.charCodeAt(i);
    if (symbol === 1) symbol = [1, 0, 13, 60][text.charCodeAt(++i) - 65];
    held = held << 7 | symbol;
    bits += 7;
    if (bits >= 8) {
      bits -= 8;
      bytes[at++] = held >> bits;
      held &= (1 << bits) - 1;
    }
  }
  return bytes.subarray(0, at);
}
async function inflate(bytes) {
  const { readable, writable } = new DecompressionStream("deflate"), writer = writable.getWriter();
  for (const done of [writer.write(bytes), writer.close()]) done.catch(() => {}); // reading fails, too
  const parts = [], reader = readable.getReader();
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    size += value.length;
  }
  if (parts.length === 1) return parts[0];
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function planesBefore([channels, height, width]) {
  return height * width >= 4096 && channels <= 32 ? Math.min(channels - 1, 12) : 0;
}
function levelSizes(height, width) {
  const sizes = [[height, width]];
  while (Math.min(height, width) > SMALLEST) {
    height = (height + 1) >> 1;
    width = (width + 1) >> 1;
    sizes.push([height, width]);
  }
  return sizes;
}
// Rows of smoothed values and rows of details, to `tall` rows of `wide` numbers.
function joinRows(even, odd, tall, wide) {
  const out = new Int32Array(tall * wide), evens = (tall + 1) >> 1, odds = tall >> 1;
  for (let row = 0; row < evens; row++) {
    const before = Math.max(row - 1, 0) * wide, after = Math.min(row, odds - 1) * wide;
    for (let i = 0; i < wide; i++)
      out[2 * row * wide + i] = even[row * wide + i] - ((odd[before + i] + odd[after + i] + 2) >> 2);
  }
  for (let row = 0; row < odds; row++) {
    const above = 2 * row * wide, below = 2 * Math.min(row + 1, evens - 1) * wide;
    for (let i = 0; i < wide; i++)
      out[above + wide + i] = odd[row * wide + i] + ((out[above + i] + out[below + i]) >> 1);
  }
  return out;
}
// The same across: `tall` rows of numbers that alternate between smoothed values and details.
function joinColumns(even, odd, tall, wide) {
  const out = new Int32Array(tall * wide), evens = (wide + 1) >> 1, odds = wide >> 1;
  for (let row = 0; row < tall; row++) {
    const start = row * wide, e = row * evens, o = row * odds;
    for (let i = 0; i < evens; i++)
      out[start + 2 * i] = even[e + i] - ((odd[o + Math.max(i - 1, 0)] + odd[o + Math.min(i, odds - 1)] + 2) >> 2);
    for (let i = 0; i < odds; i++)
      out[start + 2 * i + 1] = odd[o + i] + ((out[start + 2 * i] + out[start + 2 * Math.min(i + 1, evens - 1)]) >> 1);
  }
  return out;
}
function restored(numbers, start, size, step) {
  const band = numbers.subarray(start, start + size);
  if (step <= 1) return band;
  return band.map((value) => Math.sign(value) * Math.floor(Math.abs(value) * step + 0.5));
}
function synthesise(numbers, channels, channel, sizes, step) {
  const [small, narrow] = sizes.at(-1);
  let smooth = numbers.slice(channel * small * narrow, (channel + 1) * small * narrow);
  for (let row = 0; row < small; row++)
    for (let i = row * narrow + 1; i < (row + 1) * narrow; i++) smooth[i] += smooth[i - 1];
  let place = channels * small * narrow;
  for (let level = sizes.length - 2; level >= 0; level--) {
    const [tall, wide] = sizes[level], [less, thin] = sizes[level + 1];
    const fine = Math.max(1, step * FINER[Math.min(level, FINER.length - 1)]);
    const bands = [[tall - less, thin, fine], [less, wide - thin, fine],
      [tall - less, wide - thin, step <= 1 ? fine : 2 * fine]].map(([rows, columns, each]) => {
      const size = rows * columns, found = restored(numbers, place + channel * size, size, each);
      place += channels * size;
      return found;
    });
    smooth = joinColumns(joinRows(smooth, bands[0], tall, thin),
      joinRows(bands[1], bands[2], tall, wide - thin), tall, wide);
  }
  return smooth;
}
// Levels of all planes (Int16Array), and how many bytes they took.
function decodePlanes(bytes, shape, step, highest, expected) {
  const [channels, height, width] = shape, size = height * width, total = channels * size;
  const before = expected ? 0 : planesBefore(shape);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const factors = [];
  for (let place = 0; before && place < channels; place++) {
    factors.push(Array.from({ length: Math.min(place, before) + 1 }, (_, i) => view.getFloat32(at + 4 * i, true)));
    at += 4 * factors[place].length;
  }
  const pairs = bytes.subarray(at, at + ((total + 1) >> 1)), numbers = new Int32Array(total);
  at += pairs.length;
  let large = 0;
  for (let i = 0; i < total; i++) if ((i & 1 ? pairs[i >> 1] & 15 : pairs[i >> 1] >> 4) === LARGE) large++;
  const more = bytes.subarray(at, at + large);
  at += large;
  let next = 0;
  for (let i = 0; i < total; i++) {
    let value = i & 1 ? pairs[i >> 1] & 15 : pairs[i >> 1] >> 4;
    if (value === LARGE) {
      const byte = more[next++];
      value += byte === HUGE ? view.getUint32(at, true) : byte;
      if (byte === HUGE) at += 4;
    }
    numbers[i] = value & 1 ? -(value + 1) / 2 : value / 2;
  }
  const sizes = levelSizes(height, width), levels = new Int16Array(total);
  const known = new Float64Array(size);
  for (let channel = 0; channel < channels; channel++) {
    const start = channel * size, rest = synthesise(numbers, channels, channel, sizes, step);
    if (before) {
      const fit = factors[channel], first = Math.max(0, channel - before);
      known.fill(fit[0]);
      for (let j = 1; j < fit.length; j++) {
        const plane = (first + j - 1) * size, factor = fit[j];
        for (let i = 0; i < size; i++) known[i] = known[i] + factor * levels[plane + i];
      }
      for (let i = 0; i < size; i++) known[i] = Math.min(Math.max(Math.floor(known[i] + 0.5), -REACH), REACH);
    }
    const most = highest[channel];
    for (let i = 0; i < size; i++) {
      const level = rest[i] + (before ? known[i] : expected ? expected[start + i] : 0);
      levels[start + i] = level < 0 ? 0 : level > most ? most : level;
    }
  }
  return { levels, used: at };
}
// Maps that are the input picture under a filter of 3×3 numbers for each colour: like `decodePlanes`. Sums
// are exact in any order, see picture_filters.py.
function toldPlanes(bytes, [channels, height, width], highest, picture, beyond) {
  const size = height * width, wide = width + 2, levels = new Int16Array(channels * size);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const padded = beyond.map((zero, plane) => {
    const out = new Float64Array(wide * (height + 2));
    for (let row = 0; row < height; row++)
      for (let i = 0; i < width; i++)
        out[(row + 1) * wide + i + 1] = picture[plane * size + row * width + i] - zero;
    return out;
  });
  const count = 9 * beyond.length + 1, total = new Float64Array(size);
  for (let channel = 0; channel < channels; channel++) {
    const factor = (i) => view.getFloat32(4 * (channel * count + i), true), start = channel * size;
    total.fill(factor(count - 1));
    padded.forEach((plane, place) => {
      const [a, b, c, d, e, f, g, h, k] = Array.from({ length: 9 }, (_, i) => factor(9 * place + i));
      for (let row = 0, at = 0; row < height; row++) {
        let x = row * wide, y = x + wide, z = y + wide;
        let x0 = plane[x++], x1 = plane[x++], y0 = plane[y++], y1 = plane[y++], z0 = plane[z++], z1 = plane[z++];
        for (const end = at + width; at < end; at++) {
          const x2 = plane[x++], y2 = plane[y++], z2 = plane[z++];
          total[at] += (a * x0 + b * x1 + c * x2) + (d * y0 + e * y1 + f * y2) + (g * z0 + h * z1 + k * z2);
          x0 = x1; x1 = x2; y0 = y1; y1 = y2; z0 = z1; z1 = z2;
        }
      }
    });
    const most = Math.min(highest[channel], REACH);
    for (let i = 0; i < size; i++) {
      const level = Math.floor(total[i] + 0.5);
      levels[start + i] = level < 0 ? 0 : level > most ? most : level;
    }
  }
  return { levels, used: 4 * channels * count };
}

// A frame of a layer: what `FrameBlock` is there, with the ranges as [low, high] of each channel.
function decodeFrame(bytes, { channels: { length: channels }, shape: [height, width], ...about }, before, picture) {
  const flags = bytes[0], step = flags & 2 ? about.step : about.key_step, size = height * width;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const told = (row) => Float64Array.from({ length: channels }, (_, i) => view.getFloat32(1 + 4 * (row * channels + i), true));
  const [lows, highs, least, most] = [0, 1, 2, 3].map(told);
  let at = 1 + 16 * channels;
  const flat = bytes.subarray(at, at + channels);
  at += channels;
  let odd = null;
  if (flags & 1) {
    odd = bytes.subarray(at, at + channels * size);
    at += channels * size;
  }
  const low = new Float64Array(channels), steps = new Float64Array(channels), highest = new Float64Array(channels);
  for (let i = 0; i < channels; i++) {
    low[i] = Number.isFinite(least[i]) ? least[i] : 0;
    const own = (Number.isFinite(most[i]) ? most[i] : 0) - low[i], adaptive = highs[i] - lows[i];
    const width = adaptive > 0 && adaptive < own ? adaptive : own;
    steps[i] = (width > 0 ? width : 1) / LAST;
    highest[i] = Math.min(Math.floor(own / steps[i] + 0.5), HIGHEST);
  }
  let expected = null;
  if (flags & 2) {
    expected = new Int32Array(channels * size);
    for (let channel = 0; channel < channels; channel++) {
      const start = channel * size;
      for (let i = start; i < start + size; i++) {
        const value = before.low[channel] + before.levels[i] * before.steps[channel];
        const level = Math.floor((value - low[channel]) / steps[channel] + 0.5);
        expected[i] = Math.min(Math.max(level, -2 * HIGHEST), 2 * HIGHEST);
      }
    }
  }
  const planes = bytes.subarray(at), shape = [channels, height, width];
  const { levels, used } = flags & 4 ? toldPlanes(planes, shape, highest, picture, about.beyond)
    : decodePlanes(planes, shape, step, highest, expected);
  return { levels, odd, low, steps, highest, flat, size, kernels: bytes.subarray(at + used),
    bounds: Array.from(lows, (each, i) => [each, highs[i]]), extremes: Array.from(least, (each, i) => [each, most[i]]) };
}
function decodePicture(bytes, { shape: [height, width], step }) {
  return decodePlanes(bytes, [3, height, width], step, [255, 255, 255], null).levels;
}
