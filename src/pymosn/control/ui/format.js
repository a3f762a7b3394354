// Numbers and times for people. Every function takes null for "unknown" and gives a dash.

export const DASH = "–";

function digits(value) {
  const size = Math.abs(value);
  if (size >= 100 || Number.isInteger(value)) return value.toFixed(0);
  return size >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export function count(value) {
  if (value === null || value === undefined) return DASH;
  if (Math.abs(value) < 10000) return Number.isInteger(value) ? String(value) : digits(value);
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (Math.abs(value) >= size) return `${digits(value / size)} ${unit}`;
  }
  return digits(value);
}

export function whole(value) {
  return value === null || value === undefined ? DASH : Math.round(value).toLocaleString("en-US").replaceAll(",", " ");
}

export function rate(value) {
  if (value === null || value === undefined) return DASH;
  return value === 0 ? "0/s" : `${count(value < 100 ? Number(value.toPrecision(3)) : value)}/s`;
}

export function bytes(value) {
  if (value === null || value === undefined) return DASH;
  for (const [unit, size] of [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) {
    if (Math.abs(value) >= size) return `${digits(value / size)} ${unit}`;
  }
  return `${Math.round(value)} B`;
}

export const byteRate = (value) => (value === null || value === undefined ? DASH : `${bytes(value)}/s`);

// Seconds as 12 µs, 3.4 ms, 1.2 s, 2 min.
export function duration(value) {
  if (value === null || value === undefined) return DASH;
  if (value === 0) return "0";
  if (value < 0.000999) return `${digits(value * 1e6)} µs`;
  if (value < 0.9995) return `${digits(value * 1e3)} ms`;
  if (value < 120) return `${digits(value)} s`;
  return ago(value);
}

// A longer time: 3 min, 2 h 5 min, 4 d.
export function ago(seconds) {
  if (seconds === null || seconds === undefined) return DASH;
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export function share(value) {
  if (value === null || value === undefined) return DASH;
  const percent = value * 100;
  return `${percent !== 0 && percent < 10 ? percent.toFixed(percent < 1 ? 2 : 1) : percent.toFixed(0)} %`;
}

const two = (value) => String(value).padStart(2, "0");

export function clock(seconds) {
  const date = new Date(seconds * 1000);
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

export function dateTime(seconds) {
  const date = new Date(seconds * 1000);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${clock(seconds)}`;
}

export function plural(number, one, many = `${one}s`) {
  return `${whole(number)} ${number === 1 ? one : many}`;
}
