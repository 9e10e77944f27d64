// The live stream: keeps how everything stands, and tells whoever wants to know that it changed.

import { setClock } from './format.js';

let source = null;
const listeners = new Set();
const watchers = new Set();
export let state = null;
export let status = 'off';

function turn(to) {
  status = to;
  for (const watch of watchers) watch(to);
}

function take(event, whole) {
  const beat = JSON.parse(event.data);
  setClock(beat.at);
  state = whole || !state ? beat : { ...beat, endpoints: { ...state.endpoints, ...beat.endpoints } };
  turn('live');
  for (const listen of listeners) listen(state);
}

export function connect() {
  if (source) return;
  turn('connecting');
  source = new EventSource('/api/v1/live');
  source.addEventListener('state', (event) => take(event, true));
  source.addEventListener('beat', (event) => take(event, false));
  source.addEventListener('resync', () => turn('connecting'));
  source.addEventListener('bye', () => turn('lost'));
  source.addEventListener('error', () => {
    turn('lost');
    if (source && source.readyState === EventSource.CLOSED) {
      source = null;
      setTimeout(() => { if (status === 'lost') connect(); }, 3000);
    }
  });
}

export function disconnect() {
  source?.close();
  source = null;
  state = null;
  turn('off');
}

export function onBeat(listen, signal) {
  listeners.add(listen);
  signal?.addEventListener('abort', () => listeners.delete(listen));
}

export const onStatus = (watch) => { watchers.add(watch); watch(status); };

// Calls `load` when something has changed, never twice at a time and not more than once in `every` milliseconds.
export function refreshing(load, signal, every = 1500) {
  let busy = false;
  let again = false;
  let last = performance.now();
  let sign = '';
  async function go() {
    if (signal.aborted) return;
    if (document.hidden) { again = true; return; }
    if (busy) { again = true; return; }
    busy = true;
    again = false;
    last = performance.now();
    try { await load(); } catch (error) { if (error.name !== 'AbortError') console.debug(error.message); }
    busy = false;
    if (again) setTimeout(go, every);
  }
  document.addEventListener('visibilitychange', () => { if (!document.hidden && again) go(); }, { signal });
  onBeat((beat) => {
    const { at, ...rest } = beat;
    const now = JSON.stringify(rest);
    if (now === sign) return;
    const first = sign === '';
    sign = now;
    if (first) return;
    const wait = every - (performance.now() - last);
    if (wait <= 0) go(); else if (!again) { again = true; setTimeout(go, wait); }
  }, signal);
  return go;
}
