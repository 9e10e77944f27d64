// How things are said: times, numbers, sizes, and the words of the API for people.

import { h } from './dom.js';

const number = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

export const count = (value) => (value === null || value === undefined ? '–' : number.format(value));
export const compact = (value) => (value < 10000 ? count(value) : short.format(value));
export const plural = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;

export function bytes(value) {
  if (value === null || value === undefined) return '–';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) { value /= 1024; at += 1; }
  return `${value < 10 && at > 0 ? value.toFixed(1) : Math.round(value)} ${units[at]}`;
}

export function span(millis) {
  if (millis < 1000) return `${Math.round(millis)} ms`;
  const seconds = millis / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min${seconds < 600 && seconds % 60 >= 1 ? ` ${Math.floor(seconds % 60)} s` : ''}`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h${seconds % 3600 >= 60 ? ` ${Math.floor((seconds % 3600) / 60)} min` : ''}`;
  return `${Math.floor(seconds / 86400)} d${seconds % 86400 >= 3600 ? ` ${Math.floor((seconds % 86400) / 3600)} h` : ''}`;
}

export function coarse(millis) {
  const seconds = Math.max(0, millis / 1000);
  if (seconds < 60) return `${Math.floor(seconds)}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86400)}d`;
}

// The gateway's clock is what its times are by: the browser's may be wrong.
let skew = 0;
export const setClock = (text) => { const at = Date.parse(text); if (at) skew = at - Date.now(); };
export const now = () => Date.now() + skew;

function relative(text) {
  const apart = now() - Date.parse(text);
  if (Math.abs(apart) < 1000) return 'now';
  return apart > 0 ? `${coarse(apart)} ago` : `in ${coarse(-apart)}`;
}

export function full(text) {
  const at = new Date(text);
  return `${at.toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'medium' })}\n${text}`;
}

export const clock = (text, withSeconds = true) => new Date(text).toLocaleTimeString('en-GB',
  withSeconds ? undefined : { hour: '2-digit', minute: '2-digit' });

export function ago(text, how = 'ago') {
  if (!text) return h('span', { class: 'dim' }, '–');
  return h('time', { datetime: text, title: full(text), data: { how } }, how === 'age' ? coarse(now() - Date.parse(text)) : relative(text));
}

function tick() {
  for (const time of document.querySelectorAll('time[data-how]')) {
    const text = time.getAttribute('datetime');
    const said = time.dataset.how === 'age' ? coarse(now() - Date.parse(text)) : relative(text);
    if (time.textContent !== said) time.textContent = said;
  }
}
setInterval(tick, 1000);

export const words = (word) => String(word ?? '').replaceAll('_', ' ');

// What a delivery waits for, in a sentence.
export function waiting(wait) {
  switch (wait?.on) {
    case 'attempt': return ['an attempt is on its way'];
    case 'pause': return [wait.cause === 'gone' ? 'the endpoint said it is gone (410): it is paused' : 'the endpoint is paused'];
    case 'circuit': return ['the circuit is open, next probe ', ago(wait.probe_at)];
    case 'ramp': return [`the endpoint comes back, ${count(wait.allowed)} at a time`];
    case 'silence': return ['the endpoint asked for silence, until ', ago(wait.until)];
    case 'due': return ['next attempt ', ago(wait.at)];
    case 'line': return ['an earlier one of its line goes first: ', wait.behind];
    case 'window': return [`${plural(wait.limit, 'attempt')} on the way, as many as may be`];
    case 'rate': return ['the rate limit, next ', ago(wait.next_at)];
    case 'gateway': return [`the gateway has ${count(wait.limit)} attempts on their way, as many as it may`];
    case 'turn': return [`its turn, ${count(wait.ahead)} ahead of it`];
    case 'journal': return ['being loaded from the journal'];
    case 'parked': return ['the config does not have this endpoint'];
    default: return [words(wait?.on || 'unknown')];
  }
}

export function text(octets) {
  if (octets === null || octets === undefined) return '';
  return typeof octets === 'string' ? octets : `base64:${octets.base64}`;
}

export function pretty(body) {
  try { return JSON.stringify(JSON.parse(body), null, 2); } catch { return null; }
}

export const quoted = (value) => `'${String(value).replaceAll("'", "'\\''")}'`;
