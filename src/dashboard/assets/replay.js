// Replaying: what it would do first, then how fast and how far, then how it goes.

import { h, fill } from './dom.js';
import * as api from './api.js';
import { count, plural, span, words, full, text } from './format.js';
import { dialog, button, doing, note, field, facts, skeleton, to, badge, select } from './parts.js';

const SKIPPED = { waiting: 'one is waiting already', too_old: 'too old', delivered_later: 'got there since', body_gone: 'body no longer kept', nowhere: 'goes nowhere now' };

export const skipped = (by) => Object.entries(by).filter(([, number]) => number).map(([why, number]) => `${count(number)} ${SKIPPED[why] || words(why)}`).join(', ');

const table = (title, counts) => {
  const all = Object.entries(counts).filter(([, number]) => number);
  return all.length ? h('div', { class: 'split' }, h('h3', {}, title), h('dl', { class: 'facts tight' }, all.map(([name, number]) => [h('dt', {}, name), h('dd', {}, count(number))]))) : null;
};

function shownPlan(plan) {
  const left = skipped(plan.skipped_by);
  return [
    h('p', { class: 'lead' }, h('b', {}, plural(plan.would_make, 'delivery', 'deliveries')), ' would be made of ', h('b', {}, plural(plan.selected, 'that fits', 'that fit')), '.'),
    left && h('p', { class: 'dim' }, `Left out: ${left}.`),
    plan.oldest && h('p', { class: 'dim', title: `${full(plan.oldest)}\n${full(plan.newest)}` }, `Events from ${new Date(plan.oldest).toLocaleString('en-GB')} to ${new Date(plan.newest).toLocaleString('en-GB')}`),
    plan.takes_ms ? h('p', { class: 'dim' }, `Making them takes ${span(plan.takes_ms)} at that rate.`) : null,
    h('div', { class: 'splits' }, table('To', plan.by_endpoint), table('By type', plan.by_type), table('By status', plan.by_status)),
  ];
}

// Asks for a replay of what `filter` means; a plan is made whenever an answer changes.
export async function begin(filter, title = 'Replay', endpoints = []) {
  const asked = { filter };
  const place = h('div', { class: 'plan', 'aria-live': 'polite' }, skeleton(4));
  const start = button('Replay', (event) => doing(event.currentTarget, async () => {
    const replay = await api.post('/replays', asked, key);
    box.close();
    note(`Replay ${replay.id} has begun.`);
    location.hash = to.replay(replay.id);
  }), { kind: 'primary', disabled: true });
  const key = api.once();
  let turn = 0;
  async function plan() {
    turn += 1;
    const own = turn;
    start.disabled = true;
    try {
      const found = await api.post('/replays', { ...asked, dry_run: true });
      if (own !== turn) return;
      fill(place, shownPlan(found));
      start.disabled = found.would_make === 0;
      start.querySelector('span').textContent = found.would_make ? `Replay ${count(found.would_make)}` : 'Nothing to replay';
    } catch (error) {
      if (own === turn) fill(place, h('p', { class: 'problem', role: 'alert' }, error.message));
    }
  }
  const set = (name, value) => {
    if (value === '' || value === null || value === false) delete asked[name]; else asked[name] = value;
    clearTimeout(set.timer);
    set.timer = setTimeout(plan, 250);
  };
  const input = (name, props, read = (value) => value.trim()) => h('input', { ...props, on: { input: (event) => set(name, read(event.currentTarget.value)) } });
  const whole = (value) => (Number(value) > 0 ? Math.floor(Number(value)) : '');
  const where = endpoints.length ? field('To', select('To', '', [['', 'Where each went before'], ...endpoints.map((name) => [name, name])], (value) => set('to', value))) : null;
  const terms = h('details', { class: 'terms' }, h('summary', {}, 'How fast, how far'), h('div', { class: 'fields' },
    field('Rate', input('rate', { placeholder: 'no limit', size: 10 }), 'as in 600/min'),
    field('First', select('First', 'oldest', [['oldest', 'The oldest'], ['newest', 'The newest']], (value) => set('order', value))),
    field('Canary', input('canary', { type: 'number', min: 1, placeholder: 'none' }, whole), 'so many first, then only if all get there'),
    field('Stop after failures', input('stop_after_failures', { type: 'number', min: 1, placeholder: 'never' }, whole)),
    h('label', { class: 'field check' }, h('input', { type: 'checkbox', on: { change: (event) => set('skip_if_delivered_later', event.currentTarget.checked) } }), h('span', {}, 'Leave out what has got there since'))));
  const box = dialog(title, [place, where, terms], (close) => [button('Cancel', close), start]);
  box.box.classList.add('replaying');
  box.box.addEventListener('close', () => clearTimeout(set.timer));
  await plan();
  if (!start.disabled) start.focus();
}

// One event: where it went before, to one endpoint, or a copy to any URL.
export function one(event, endpoints, after) {
  const made = new Set((event.deliveries || []).map((delivery) => delivery.endpoint));
  const known = [...new Set([...made, ...endpoints])].sort();
  let where = made.size === 1 ? [...made][0] : '';
  const force = h('input', { type: 'checkbox' });
  const url = h('input', { type: 'url', placeholder: 'https://staging.example.com/hook', autocomplete: 'off', on: { input: () => { go.querySelector('span').textContent = url.value ? 'Send a copy' : 'Replay'; } } });
  const answer = h('div', { 'aria-live': 'polite' });
  const options = [['', made.size ? `Everywhere it went (${made.size})` : 'Where routes send it now'], ...known.map((name) => [name, made.has(name) ? name : `${name} (new to it)`])];
  const go = button('Replay', (click) => doing(click.currentTarget, async () => {
    if (url.value) {
      const tried = await api.post('/replays', { filter: { id: [event.id], status: ['delivered', 'dead', 'retrying', 'scheduled', 'cancelled', 'expired'] }, to_url: url.value, copies: 1 });
      const copy = tried.items[0];
      fill(answer, copy ? h('div', { class: 'trial' }, h('p', {}, badge(copy.outcome), ' ', copy.now.status ? `answered ${copy.now.status}` : words(copy.now.failure), ` after ${span(copy.now.took_ms)}`, copy.before ? h('span', { class: 'dim' }, `; before: ${copy.before.status ?? words(copy.before.failure)} after ${span(copy.before.took_ms)}`) : null), copy.body ? h('pre', { class: 'code' }, text(copy.body)) : null) : h('p', { class: 'dim' }, 'There is no delivery of it to copy.'));
      return;
    }
    if (!made.size && !where) {
      const replay = await api.post('/replays', { filter: { id: [event.id], unrouted: true } }, api.once());
      box.close();
      location.hash = to.replay(replay.id);
      return;
    }
    const done = await api.post(`/events/${api.part(event.id)}/replay`, { to: where || null, force: force.checked });
    box.close();
    note(`${plural(done.deliveries.length, 'delivery', 'deliveries')} made: ${done.deliveries.map((delivery) => delivery.endpoint).join(', ')}`);
    after?.();
  }), { kind: 'primary' });
  const box = dialog('Replay this event', [
    field('To', select('To', where, options, (value) => { where = value; })),
    h('label', { class: 'field check' }, force, h('span', {}, 'Also where one is waiting already')),
    field('Or a copy to this URL', url, 'nothing is recorded; the guard of connections applies'), answer,
  ], (close) => [button('Cancel', close), go]);
  go.focus();
}

export function progress(replay) {
  const parts = [['ok', replay.delivered], ['warn', replay.retrying], ['accent', replay.open - replay.retrying], ['bad', replay.dead], ['plain', replay.withdrawn + replay.skipped]];
  const all = Math.max(1, parts.reduce((sum, [, number]) => sum + number, 0));
  const said = `${count(replay.delivered)} delivered, ${count(replay.open)} open, ${count(replay.dead)} dead, ${count(replay.skipped)} skipped`;
  return h('div', { class: 'bar', role: 'img', 'aria-label': said, title: said }, parts.filter(([, number]) => number > 0).map(([kind, number]) => h('i', { class: `tone-${kind}`, vars: { '--part': number / all } })));
}

export const replayFacts = (replay) => facts([
  ['Selected', count(replay.selected)], ['Made', count(replay.queued)], ['Skipped', replay.skipped ? `${count(replay.skipped)} (${skipped(replay.skipped_by)})` : '0'],
  ['Delivered', count(replay.delivered)], ['On the way', count(replay.open)], ['Retrying', count(replay.retrying)], ['Dead', count(replay.dead)], ['Withdrawn', count(replay.withdrawn)],
]);
