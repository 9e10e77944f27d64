// Small plots, drawn once as SVG and stretched by it. A number is read off by pointing, or by arrow keys.

import { h, s, fill } from './dom.js';
import { compact, clock, count } from './format.js';

const W = 600;

function ceiling(value) {
  if (value <= 4) return 4;
  const base = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * base).find((step) => step >= value);
}

function line(values, top, height) {
  const step = values.length > 1 ? W / (values.length - 1) : 0;
  return values.map((value, at) => `${at ? 'L' : 'M'}${(at * step).toFixed(1)} ${(height - (value / top) * (height - 2) - 1).toFixed(1)}`).join('');
}

export function spark(values, tone = 'accent', label = '') {
  const height = 24;
  const shown = values.length > 1 ? values : [0, 0];
  const top = Math.max(1, ...shown);
  const path = line(shown, top, height);
  const title = `${label}: now ${count(shown.at(-1))}, at most ${count(Math.max(...shown))} in ${shown.length} minutes`;
  return s('svg', { class: `spark tone-${tone}`, viewBox: `0 0 ${W} ${height}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': title },
    s('title', {}, title), s('path', { class: 'area', d: `${path}L${W} ${height}L0 ${height}Z` }), s('path', { class: 'line', d: path }));
}

// Several lines over the same minutes.
export function plot(minutes, lines, label) {
  const height = 150;
  const top = ceiling(Math.max(0, ...lines.flatMap((one) => one.values)));
  const grid = [0, 0.5, 1].map((part) => s('line', { class: 'grid', x1: 0, x2: W, y1: height - part * (height - 2) - 1, y2: height - part * (height - 2) - 1 }));
  const marks = lines.map((one) => {
    const shown = one.values.length > 1 ? one.values : [0, ...one.values];
    const path = line(shown, top, height);
    return s('g', { class: `tone-${one.tone}` }, s('path', { class: 'area', d: `${path}L${W} ${height}L0 ${height}Z` }), s('path', { class: 'line', d: path }));
  });
  const cursor = s('line', { class: 'cursor', y1: 0, y2: height, x1: 0, x2: 0, visibility: 'hidden' });
  const picture = s('svg', { class: 'plot', viewBox: `0 0 ${W} ${height}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' }, grid, marks, cursor);
  const legend = h('p', { class: 'legend' });
  const last = minutes.length - 1;
  const say = (at) => {
    const is = at === null ? last : at;
    fill(legend, lines.map((one) => h('span', { class: `key tone-${one.tone}` }, h('i'), one.name, h('b', {}, count(one.values[is] ?? 0)))),
      h('span', { class: 'dim at' }, at === null ? 'this minute' : clock(minutes[is], false)));
    const x = at !== null && last ? (at * W) / last : 0;
    cursor.setAttribute('visibility', at === null ? 'hidden' : 'visible');
    cursor.setAttribute('x1', x);
    cursor.setAttribute('x2', x);
  };
  say(null);
  let at = last;
  const area = h('div', {
    class: 'canvas', tabindex: 0, role: 'group', 'aria-label': `${label}; the arrow keys read it off`,
    on: {
      pointermove: (event) => {
        const box = area.getBoundingClientRect();
        at = Math.max(0, Math.min(last, Math.round(((event.clientX - box.left) / box.width) * last)));
        say(at);
      },
      pointerleave: () => say(null), blur: () => say(null),
      keydown: (event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (!step) return;
        event.preventDefault();
        at = Math.max(0, Math.min(last, at + step));
        say(at);
      },
    },
  }, picture, h('span', { class: 'tick top' }, compact(top)), h('span', { class: 'tick mid' }, compact(top / 2)));
  const ends = h('p', { class: 'ends dim' }, h('span', {}, minutes.length ? clock(minutes[0], false) : ''), h('span', {}, 'now'));
  return h('figure', { class: 'chart', 'aria-label': label }, h('figcaption', {}, label), legend, area, ends);
}

// Bars over time; one that is chosen narrows the time to it.
export function bars(histogram, choose) {
  const { counts, failed, step_ms: step, since } = histogram;
  const top = Math.max(1, ...counts);
  const begin = Date.parse(since);
  const width = W / counts.length;
  const height = 64;
  const box = h('div', { class: 'bars' });
  const picture = s('svg', { class: 'plot', viewBox: `0 0 ${W} ${height}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': `${count(counts.reduce((sum, one) => sum + one, 0))} events over time` });
  counts.forEach((all, at) => {
    const tall = all ? Math.max(2, (all / top) * height) : 0;
    const bad = all ? Math.min(tall, failed[at] ? Math.max(2, (failed[at] / top) * height) : 0) : 0;
    const from = new Date(begin + at * step).toISOString();
    const to = new Date(begin + (at + 1) * step).toISOString();
    const bar = s('g', { class: 'bar', on: { click: () => all && choose(from, to) } },
      s('title', {}, `${new Date(from).toLocaleString('en-GB')}: ${count(all)} events, ${count(failed[at])} with a failure`),
      s('rect', { class: 'back', x: at * width, y: 0, width, height }),
      s('rect', { class: 'good', x: at * width + 0.5, y: height - tall, width: Math.max(1, width - 1), height: tall }),
      s('rect', { class: 'bad', x: at * width + 0.5, y: height - bad, width: Math.max(1, width - 1), height: bad }));
    picture.append(bar);
  });
  const end = new Date(begin + counts.length * step);
  box.append(picture, h('p', { class: 'ends dim' }, h('span', {}, new Date(since).toLocaleString('en-GB', { dateStyle: 'short', timeStyle: 'short' })),
    h('span', {}, `at most ${count(Math.max(...counts))}`), h('span', {}, end.toLocaleString('en-GB', { dateStyle: 'short', timeStyle: 'short' }))));
  return box;
}

export function meter(part, whole, tone = 'accent', label = '') {
  const share = whole > 0 ? Math.min(1, part / whole) : 0;
  return h('div', { class: `meter tone-${tone}`, role: 'meter', 'aria-label': label, 'aria-valuenow': Math.round(share * 100), 'aria-valuemin': 0, 'aria-valuemax': 100 }, h('i', { vars: { '--share': share } }));
}
