// One event: what it is, and everything that became of it, as one timeline.

import { h, fill } from './dom.js';
import * as api from './api.js';
import * as live from './live.js';
import { ago, bytes, count, span, words, full, text, quoted, clock } from './format.js';
import { panel, badge, button, copy, code, headers, tabs, facts, dialog, doing, note, to, tone, waits } from './parts.js';
import { one } from './replay.js';
import { onReplay } from './keys.js';

export const title = (parts) => parts[1] || 'Event';

// What happened, in order: the receipt, each delivery's making, each attempt, each end.
function story(event) {
  const all = [{ at: event.received_at, kind: 'received' }];
  for (const delivery of event.deliveries ?? []) {
    if (delivery.replay || delivery.created_at !== event.received_at) all.push({ at: delivery.created_at, kind: 'made', delivery });
    for (const attempt of delivery.attempts ?? []) all.push({ at: attempt.started_at, kind: 'attempt', delivery, attempt });
    if (!delivery.waits_for && (delivery.status !== 'delivered' && delivery.reason !== 'acknowledged')) all.push({ at: delivery.changed_at, kind: 'end', delivery });
  }
  const rank = { received: 0, made: 1, attempt: 2, end: 3 };
  all.sort((a, b) => Date.parse(a.at) - Date.parse(b.at) || rank[a.kind] - rank[b.kind]);
  for (const delivery of event.deliveries ?? []) if (delivery.waits_for) all.push({ at: delivery.waits_for.since, kind: 'waits', delivery });
  return all;
}

const result = (attempt) => (attempt.answer ? `${attempt.answer.status}` : words(attempt.failure?.class));

function shell(event, body, url) {
  const sent = (event.headers ?? []).filter(([name]) => !['host', 'content-length', 'connection', 'accept-encoding'].includes(name));
  const lines = [`curl --request POST ${quoted(url)}`, ...sent.map(([name, value]) => `--header ${quoted(`${name}: ${text(value)}`)}`)];
  return [...lines, `--data-binary ${body.startsWith('base64:') ? '@body.bin' : quoted(body)}`].join(' \\\n  ');
}

export async function render({ root, parts, signal, may }) {
  const id = parts[1] ?? '';
  let event = await api.get(`/events/${api.part(id)}`, signal);
  const endpoints = (await api.get('/endpoints', signal)).items;
  const raw = event.payload_kept === false ? null : await api.get(`/events/${api.part(id)}/body`, signal).catch((error) => { if (error.name === 'AbortError') throw error; return null; });
  let body = null;
  let binary = false;
  if (raw !== null) {
    const octets = raw instanceof ArrayBuffer ? raw : new TextEncoder().encode(JSON.stringify(raw)).buffer;
    try { body = new TextDecoder('utf-8', { fatal: true }).decode(octets); } catch {
      binary = true;
      body = [...new Uint8Array(octets).slice(0, 65536)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
    }
  }

  const url = (name) => endpoints.find((one_) => one_.name === name)?.url ?? 'http://localhost:8080/hook';
  const target = () => url(event.deliveries?.[0]?.endpoint);
  const replay = () => one(event, endpoints.filter((of) => of.configured).map((of) => of.name), refresh);
  if (may('operate')) onReplay(replay, signal);

  const head = h('div', { class: 'head' });
  const timeline = h('ol', { class: 'story' });
  const summary = h('div', { class: 'ends-at' });
  const payload = body === null
    ? h('p', { class: 'dim' }, 'Headers and body are no longer kept (retention), or their record was damaged.')
    : tabs([['pretty', binary ? 'Bytes' : 'Pretty'], ['raw', 'Raw'], ['headers', `Headers ${event.headers?.length ?? 0}`]], 'pretty',
      (name) => (name === 'headers' ? headers(event.headers) : code(body, name === 'raw' || binary)));

  function attempt({ delivery, attempt: of }) {
    const shown = of.answer
      ? [facts([['Status', of.answer.status], ['Took', span(of.took_ms)], of.answer.retry_after_ms !== null && ['Retry after', span(of.answer.retry_after_ms)]]), h('h3', {}, 'Headers'), headers(of.answer.headers), h('h3', {}, of.answer.body_cut ? 'Body (its beginning)' : 'Body'), code(text(of.answer.body))]
      : [facts([['Failure', words(of.failure?.class)], ['Took', span(of.took_ms)]]), code(of.failure?.detail ?? '', true)];
    dialog(`Attempt ${of.number} to ${delivery.endpoint}`, h('div', { class: 'sides' },
      h('section', {}, h('h3', { class: 'side-title' }, 'Request'), facts([['To', url(delivery.endpoint)], ['Began', ago(of.started_at)], ['webhook-id', event.id], ['backstop-attempt', of.number], ['backstop-delivery', delivery.id], delivery.replay && ['backstop-replay', delivery.replay]]), h('h3', {}, 'The sender’s headers'), headers(event.headers), h('h3', {}, 'Body'), body === null ? h('p', { class: 'dim' }, 'no longer kept') : code(body, binary)),
      h('section', {}, h('h3', { class: 'side-title' }, 'Response ', badge(of.outcome)), shown)),
    (close) => [body !== null && copy(() => shell(event, body, url(delivery.endpoint)), 'Copy as curl'), button('Close', close)]).box.classList.add('broad');
  }

  function entry(of) {
    const when = h('time', { datetime: of.at, title: full(of.at), class: 'when' }, clock(of.at));
    const name = of.delivery && h('a', { href: to.endpoint(of.delivery.endpoint), class: 'name' }, of.delivery.endpoint);
    if (of.kind === 'received') return h('li', { class: 'tone-accent' }, when, h('div', {}, h('b', {}, 'Received'), h('span', { class: 'dim' }, ` from ${event.source}, ${bytes(event.body_bytes)}`), event.occurred_at && h('small', { class: 'dim' }, 'happened ', ago(event.occurred_at), ' by the sender’s word')));
    if (of.kind === 'made') return h('li', { class: 'tone-plain' }, when, h('div', {}, name, h('span', {}, of.delivery.replay ? ' made by ' : ' made by an operator'), of.delivery.replay && h('a', { href: to.replay(of.delivery.replay), class: 'mono' }, of.delivery.replay)));
    if (of.kind === 'end') return h('li', { class: `tone-${tone(of.delivery.status)}` }, when, h('div', {}, name, ' ', badge(of.delivery.status), h('span', { class: 'dim' }, ` ${words(of.delivery.reason)}`)));
    if (of.kind === 'waits') return h('li', { class: 'tone-warn now' }, h('span', { class: 'when' }, 'now'), h('div', {}, name, ' waits: ', waits(of.delivery), h('small', { class: 'dim' }, 'since ', ago(of.at), may('operate') ? [' · ', h('button', { class: 'inline', type: 'button', on: { click: (click) => doing(click.currentTarget, async () => { await api.post(`/deliveries/${api.part(of.delivery.id)}/cancel`); note('Cancelled.'); refresh(); }) } }, 'Cancel it')] : null)));
    const { attempt: tried } = of;
    return h('li', { class: `tone-${tone(tried.outcome)}` }, when, h('div', {}, name, ' ', h('button', { class: 'inline strong', type: 'button', on: { click: () => attempt(of) } }, `attempt ${tried.number}`), ' ', badge(result(tried), tone(tried.outcome)), h('span', { class: 'dim' }, ` ${words(tried.outcome)} after ${span(tried.took_ms)}${tried.probe ? ', a probe' : ''}${tried.released_out_of_order ? ', sent out of order' : ''}`), tried.failure && h('small', { class: 'dim clip' }, tried.failure.detail), tried.answer && text(tried.answer.body) && h('small', { class: 'dim clip mono' }, text(tried.answer.body).slice(0, 200))));
  }

  function say() {
    const deliveries = (event.deliveries ?? []).filter((of) => !of.superseded);
    fill(head, h('div', {}, h('h1', {}, event.type), h('p', { class: 'mono dim id' }, event.id)), h('div', { class: 'actions' }, button('Replay', replay, { kind: 'primary', key: 'r', disabled: !may('operate') || event.payload_kept === false }), body !== null && copy(() => shell(event, body, target()), 'Copy as curl'), h('a', { class: 'button quiet', href: `/api/v1/events/${api.part(event.id)}/body`, download: `${event.id}.body` }, h('span', {}, 'Download'))));
    fill(summary, facts([['Source', h('a', { href: `#/events?source=${api.part(event.source)}` }, event.source)], ['Key', event.key ? h('a', { href: to.call(event.key), class: 'mono' }, event.key) : null], ['Received', ago(event.received_at)], ['Happened', event.occurred_at ? ago(event.occurred_at) : null], event.original && ['Imported from', h('span', { class: 'mono' }, event.original)], ['Size', bytes(event.body_bytes)]]),
      h('ul', { class: 'arrivals' }, deliveries.length ? deliveries.map((of) => h('li', {}, h('a', { href: to.endpoint(of.endpoint), class: 'name' }, of.endpoint), badge(of.status), h('small', { class: 'dim' }, `${words(of.reason)}, ${count(of.attempts_made)} ${of.attempts_made === 1 ? 'try' : 'tries'}`))) : h('li', { class: 'dim' }, 'No route took it: it went nowhere, and is kept.')));
    fill(timeline, story(event).map(entry));
  }
  async function refresh() {
    event = await api.get(`/events/${api.part(id)}`, signal);
    const focused = timeline.contains(document.activeElement);
    const at = focused ? [...timeline.children].findIndex((li) => li.contains(document.activeElement)) : -1;
    say();
    if (at >= 0) timeline.children[at]?.querySelector('a,button')?.focus({ preventScroll: true });
  }
  fill(root, head, summary, h('div', { class: 'sides main-sides' }, panel('Timeline', null, timeline), panel('Payload', null, payload)));
  say();
  live.refreshing(refresh, signal, 1000);
}
