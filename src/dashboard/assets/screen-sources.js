// Sources: how to set a sender up, and what was refused of late, to be taken in once what was wrong is put right.

import { h, fill } from './dom.js';
import * as api from './api.js';
import * as live from './live.js';
import { ago, bytes, words, text, plural, quoted } from './format.js';
import { panel, badge, table, paged, select, button, copy, code, headers, facts, doing, note, empty, to, SPANS } from './parts.js';

export const title = (parts) => (parts[1] === 'refusals' ? parts[2] || 'Refusals' : 'Sources');
export const render = (place) => (place.parts[1] === 'refusals' && place.parts[2] ? refusal(place) : all(place));

// Who a source is made for, by what it reads; and what to do there.
const SENDERS = [
  [(of) => of.handshake === 'slack', 'Slack', 'In the app’s settings, under Event Subscriptions, set the Request URL. The source’s secret is the Signing Secret of Basic Information.'],
  [(of) => of.handshake === 'zoom', 'Zoom', 'In the app’s Event Subscriptions, set the event notification endpoint. The source’s secret is the app’s Secret Token.'],
  [(of) => of.handshake === 'meta', 'Meta', 'In the app’s Webhooks, set the Callback URL and the verify token that the source has. The source’s secret is the App Secret.'],
  [(of) => of.handshake === 'microsoft', 'Microsoft Graph', 'Create subscriptions with this notificationUrl, and the source’s secret as clientState.'],
  [(of) => of.verification === 'twilio', 'Twilio', 'Set it as the status callback or webhook. The source’s secret is the Auth Token, and public_url has to be what Twilio calls.'],
  [(of) => of.type.includes('header:x-github-event'), 'GitHub', 'In the repository’s or organization’s Settings, Webhooks: set the Payload URL, the content type application/json, and the source’s secret.'],
  [(of) => of.type.includes('header:x-shopify-topic'), 'Shopify', 'Subscribe to topics with this URL. The source’s secret is the one that Shopify signs webhooks with.'],
  [(of) => of.key.includes('/data/object/customer'), 'Stripe', 'Add it as an endpoint under Webhooks. The source’s secret is that endpoint’s signing secret, whsec_….'],
  [(of) => of.key.includes('/call/call_id'), 'Retell', 'Set it as the webhook’s URL. The source’s secret is the API key that has the webhook badge.'],
  [(of) => of.type.includes('/message/type'), 'Vapi', 'Set it as the Server URL, with the source’s secret as its credential.'],
  [(of) => of.type.includes('/event_type') && of.key.includes('/call_id'), 'Flyflow', 'In the Flyflow dashboard, set it as the webhook’s URL.'],
  [(of) => of.verification === 'standard', 'Standard Webhooks', 'Add it as an endpoint. The source’s secret is that endpoint’s secret, whsec_….'],
];

function sample(source) {
  const body = {};
  for (const [places, value] of [[source.type, 'order_created'], [source.key, '42'], [source.time, new Date().toISOString()]]) {
    const pointer = places.find((place) => place.startsWith('/'));
    if (!pointer) continue;
    const names = pointer.split('/').slice(1);
    const last = names.pop();
    let at = body;
    for (const name of names) at = Object.hasOwn(at, name) ? at[name] : (at[name] = {});
    if (typeof at === 'object') at[last] = value;
  }
  return body;
}

function snippet(source, base) {
  const url = `${(source.public_url ?? base).replace(/\/$/, '')}/in/${source.name}${source.path_token ? '/TOKEN' : ''}`;
  const [, sender, what] = SENDERS.find(([is]) => is(source)) ?? [null, null, 'Have the sender post to it.'];
  const body = sender === 'Flyflow' ? { event_type: 'call_started', call_id: 'abc123', timestamp: new Date().toISOString(), data: {} } : sample(source);
  const shell = source.verification === 'open' ? `curl ${quoted(url)} \\\n  --header 'content-type: application/json' \\\n  --data-binary ${quoted(JSON.stringify(body))}` : null;
  return { url, sender, what, shell };
}

async function all({ root, params, set, signal }) {
  const { items, listens_on: address } = await api.get('/sources', signal);
  const port = address.slice(address.lastIndexOf(':') + 1);
  const base = `http://${location.hostname}:${port}`;
  const cards = items.map((source) => {
    const { url, sender, what, shell } = snippet(source, base);
    return h('article', { class: 'panel source' }, h('header', {}, h('h2', {}, source.name), h('a', { href: `#/events?source=${api.part(source.name)}` }, plural(source.held.events, 'event'))),
      h('p', {}, sender && h('b', {}, `${sender}. `), what),
      code(url, true), copy(url, 'Copy the URL'),
      shell ? [h('p', { class: 'dim' }, 'To see one arrive:'), code(shell, true), copy(shell, 'Copy as curl')] : h('p', { class: 'dim' }, 'It takes what its sender has signed or proven only: have that one send a test.'),
      facts([['Sender', source.verification === 'open' ? badge('anybody may send', 'warn') : `verified: ${words(source.verification)}`], ['Type', source.type.join(', ') || 'not read'], ['Key', source.key.join(', ') || 'not read'], ['Duplicates', source.dedup === 'off' ? 'not looked for' : `by ${source.dedup}`], ['What cannot be read', source.strict ? 'is refused' : 'is kept as unknown'], ['Largest body', bytes(source.body_max_bytes)], ['Held', bytes(source.held.bytes)]]));
  });
  const names = ['source', 'reason', 'since'];
  const asked = () => Object.fromEntries(names.filter((name) => params.get(name)).map((name) => [name, params.get(name)]));
  const list = table([
    { name: 'Reason', cls: 'c-state', cell: (item) => h('a', { href: to.refusal(item.id) }, badge(item.reason, item.reason === 'duplicate' ? 'plain' : 'warn')) },
    { name: 'Source', cls: 'c-mid', cell: (item) => item.source },
    { name: 'What was wrong', cls: 'c-main', cell: (item) => h('span', { class: 'clip' }, item.detail || words(item.reason)) },
    { name: 'From', cls: 'c-mid', cell: (item) => item.peer ?? h('span', { class: 'dim' }, '–') },
    { name: 'Became', cls: 'c-mid', cell: (item) => (item.event || item.duplicate_of ? h('a', { href: to.event(item.event ?? item.duplicate_of), class: 'mono clip' }, item.event ?? item.duplicate_of) : h('span', { class: 'dim' }, 'nothing')) },
    { name: 'When', cls: 'c-time', cell: (item) => ago(item.at) },
  ], { key: (item) => item.id, label: 'Refused requests', open: (item) => to.refusal(item.id) });
  const view = paged(list, (cursor) => api.get(`/refusals${api.query({ ...asked(), limit: 25, ...(cursor ? { cursor } : {}) })}`, signal), () => empty('Nothing was refused', 'Requests that became no event are kept here for a while, with the reason.'));
  fill(root, h('h1', {}, 'Sources'), items.length ? h('div', { class: 'two' }, cards) : empty('No sources', 'Add [sources.NAME] to gateway.toml: nobody can send yet.'),
    h('div', { class: 'filters' }, h('h2', {}, 'Refused requests'), select('Source', params.get('source'), [['', 'Any source'], ...items.map((one) => [one.name, one.name])], (source) => set({ source })), select('Reason', params.get('reason'), [['', 'Any reason'], ['duplicate', 'Duplicate'], ['malformed', 'Malformed'], ['unverified', 'Unverified'], ['quarantined', 'Quarantined'], ['too_large', 'Too large'], ['headers_too_large', 'Headers too large'], ['rate', 'Too fast']], (reason) => set({ reason })), select('Time', params.get('since'), SPANS, (since) => set({ since }))),
    panel(null, null, view.element));
  live.refreshing(view.refresh.bind(view), signal, 3000);
  await view.refresh();
}

async function refusal({ root, parts, signal, may }) {
  const id = parts[2];
  async function load() {
    const one = await api.get(`/refusals/${api.part(id)}`, signal);
    const force = h('input', { type: 'checkbox' });
    const body = text(one.body);
    const take = button('Make an event of it', (event) => doing(event.currentTarget, async () => {
      const done = await api.post(`/refusals/${api.part(id)}/ingest`, { force: force.checked });
      note('It is an event now.');
      if (done.event) location.hash = to.event(done.event); else await load();
    }), { kind: 'primary', disabled: !one.whole || !may('operate'), title: one.whole ? '' : 'Only its beginning was kept' });
    fill(root, h('div', { class: 'head' }, h('div', {}, h('h1', {}, 'Refused: ', words(one.reason)), h('p', { class: 'mono dim id' }, one.id)), h('div', { class: 'actions' }, h('label', { class: 'field check' }, force, h('span', {}, 'Even if it is there already')), take)),
      panel(null, null, facts([['Source', one.source], ['When', ago(one.at)], ['From', one.peer], ['What was wrong', one.detail], ['Body', `${bytes(one.body_bytes)}, ${bytes(one.body_kept_bytes)} kept`], one.duplicate_of && ['Duplicate of', h('a', { href: to.event(one.duplicate_of), class: 'mono' }, one.duplicate_of)], one.event && ['Became', h('a', { href: to.event(one.event), class: 'mono' }, one.event)]])),
      h('div', { class: 'sides main-sides' }, panel('Body', null, code(body)), panel('Headers', null, headers(one.headers))));
  }
  await load();
}
