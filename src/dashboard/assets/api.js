// The public admin API, as anybody may use it; in here with the session's cookie.

export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail || `the gateway answered ${status}`);
    this.status = status;
    this.body = body;
  }
}

let onSignedOut = () => {};
export const whenSignedOut = (react) => { onSignedOut = react; };

async function ask(method, path, { body, headers = {}, signal } = {}) {
  const own = { ...headers };
  if (method !== 'GET') own['x-backstop'] = '1';
  if (body !== undefined) own['content-type'] = 'application/json';
  let response;
  try {
    response = await fetch(`/api/v1${path}`, {
      method, signal, headers: own, credentials: 'same-origin', cache: 'no-store', redirect: 'error',
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Problem(0, { detail: 'the gateway cannot be reached' });
  }
  if (response.status === 204) return null;
  const isJson = /json/.test(response.headers.get('content-type') || '');
  const answer = isJson ? await response.json() : await response.arrayBuffer();
  if (response.ok) return answer;
  if (response.status === 401) onSignedOut();
  throw new Problem(response.status, isJson ? answer : null);
}

export const get = (path, signal) => ask('GET', path, { signal });
export const post = (path, body = {}, headers = {}) => ask('POST', path, { body, headers });
export const remove = (path) => ask('DELETE', path);

// A name for a request, so that it is done once even if it is sent twice.
export const once = () => ({ 'idempotency-key': crypto.randomUUID ? crypto.randomUUID() : [...crypto.getRandomValues(new Uint32Array(4))].join('-') });

export function query(params) {
  const text = new URLSearchParams(params).toString();
  return text ? `?${text}` : '';
}

export const part = encodeURIComponent;

export const signIn = (token) => ask('POST', '/session', { headers: { authorization: `Bearer ${token}` } });
export const signOut = () => remove('/session');
