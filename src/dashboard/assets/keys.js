// The keyboard: j and k move along what is listed, Enter opens, r replays, / searches, ? helps, Esc goes back.

import { h } from './dom.js';
import { dialog } from './parts.js';

const PLACES = { o: '#/', f: '#/failed', e: '#/events', c: '#/calls', n: '#/endpoints', p: '#/replays', s: '#/sources', a: '#/audit' };
let replay = null;
let going = false;

export const onReplay = (react, signal) => {
  replay = react;
  signal.addEventListener('abort', () => { if (replay === react) replay = null; });
};

const rows = () => [...document.querySelectorAll('main .table tbody tr, main .story > li')].filter((row) => row.offsetParent !== null);
export const current = () => document.querySelector('main .current');

function mark(row) {
  current()?.classList.remove('current');
  row.classList.add('current');
  const inside = row.querySelector('a[href]') || row.querySelector('button');
  inside?.focus({ preventScroll: true });
  row.scrollIntoView({ block: 'nearest' });
}

function move(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.indexOf(current());
  mark(all[Math.max(0, Math.min(all.length - 1, at < 0 ? (step > 0 ? 0 : all.length - 1) : at + step))]);
}

export function help() {
  const keys = [['j  k', 'next, previous'], ['Enter', 'open'], ['x', 'select'], ['r', 'replay what is selected or shown'], ['/', 'search'], ['Esc', 'close, or back'], ['?', 'this'], ['g o', 'overview'], ['g f', 'failed'], ['g e', 'events'], ['g c', 'calls'], ['g n', 'endpoints'], ['g p', 'replays'], ['g s', 'sources'], ['g a', 'audit log']];
  dialog('Keyboard', h('dl', { class: 'keys' }, keys.map(([key, what]) => [h('dt', {}, key.split(/\s+/).map((one) => h('kbd', {}, one))), h('dd', {}, what)])));
}

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const inField = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) && event.target.type !== 'checkbox';
  if (document.querySelector('dialog[open]')) return;
  if (event.key === 'Escape') {
    if (inField) { event.target.blur(); return; }
    if (document.body.classList.contains('menu')) { document.body.classList.remove('menu'); return; }
    if (location.hash.split('/').length > 2) history.back();
    return;
  }
  if (inField || !document.querySelector('main')) return;
  if (going) {
    going = false;
    if (PLACES[event.key]) { event.preventDefault(); location.hash = PLACES[event.key]; }
    return;
  }
  const react = {
    j: () => move(1), k: () => move(-1), '?': help,
    g: () => { going = true; setTimeout(() => { going = false; }, 1500); },
    r: () => replay?.(),
    '/': () => { const box = document.querySelector('main .query'); if (box) { box.focus(); box.select(); } else location.hash = '#/events'; },
    x: () => { const box = current()?.querySelector('input.pick'); if (box) box.click(); },
    Enter: () => { if (/^(A|BUTTON)$/.test(event.target.tagName)) return false; const first = current()?.querySelector('a[href]'); first?.click(); return Boolean(first); },
  }[event.key];
  if (react && react() !== false) event.preventDefault();
});

document.addEventListener('focusin', (event) => {
  const row = event.target.closest?.('main .table tbody tr, main .story > li');
  if (row && row !== current()) { current()?.classList.remove('current'); row.classList.add('current'); }
});
