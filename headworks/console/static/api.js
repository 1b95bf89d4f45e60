// The API, with the session's CSRF token. Errors are ApiError with the problem's own words.

export class ApiError extends Error {
  constructor(status, detail) { super(detail); this.status = status; }
}

let csrf = null;
export function setCsrf(token) { csrf = token; }

export async function call(method, path, body) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (csrf && method !== "GET") headers["X-CSRF-Token"] = csrf;
  let answer;
  try {
    answer = await fetch("api/v1" + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new ApiError(0, "offline");
  }
  if (answer.status === 204) return null;
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new ApiError(answer.status, found.detail || answer.statusText);
  return found;
}

export const get = (path, query = {}) => {
  const asked = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") asked.append(name, value);
  }
  const text = asked.toString();
  return call("GET", path + (text ? "?" + text : ""));
};
export const post = (path, body) => call("POST", path, body);

// Live updates: `changed` is called with what has changed, `live` with whether they come.
export function follow(changed, live) {
  const source = new EventSource("api/v1/events");
  source.addEventListener("hello", () => live(true));
  source.addEventListener("alarms", (event) => changed(JSON.parse(event.data)));
  source.addEventListener("reload", () => changed({}));
  source.onerror = () => live(false);
  return source;
}
