// One stream of frames at a time. A stream that ends, breaks or falls silent is followed by another, and what is shown
// stays as it is meanwhile.

const SILENCE_MS = 6000;
const PAUSES_MS = [500, 1000, 2000, 5000];

export class Stream {
  /** Callbacks: hello(document), frame(document), state("live" | "lost", why the service refuses, if it does). */
  constructor(callbacks) {
    this.callbacks = callbacks;
    this.query = null;
    this.source = null;
    this.failures = 0;
    this.heard = 0;
    setInterval(() => this.#watch(), 1000);
    // A page that nobody sees takes no place from others.
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#close() : this.#open()));
    addEventListener("pagehide", () => this.#close());
    addEventListener("pageshow", (event) => event.persisted && this.#open());
  }

  ask(query) {
    const text = new URLSearchParams(query).toString();
    if (text === this.query && this.source) return;
    this.query = text;
    this.#open();
  }

  #open() {
    if (this.query === null || document.hidden) return;
    this.#close();
    const source = new EventSource(`live/feed?${this.query}`);
    this.source = source;
    this.heard = performance.now();
    source.addEventListener("hello", (event) => {
      this.failures = 0;
      this.heard = performance.now();
      this.callbacks.state("live");
      this.callbacks.hello(JSON.parse(event.data));
    });
    source.addEventListener("frame", (event) => {
      this.heard = performance.now();
      this.callbacks.frame(JSON.parse(event.data));
    });
    source.addEventListener("error", () => {
      if (source !== this.source) return;
      this.#failed();
      // Refused for good as far as the browser is concerned: there may be room later.
      if (source.readyState === EventSource.CLOSED) this.#retry();
    });
  }

  #failed() {
    this.failures += 1;
    // A stream ends now and then, and the next one is there at once: not worth a word.
    if (this.failures > 1 || this.source === null || this.source.readyState === EventSource.CLOSED) {
      this.callbacks.state("lost");
    }
  }

  #retry() {
    this.#close();
    const pause = PAUSES_MS[Math.min(this.failures, PAUSES_MS.length - 1)];
    this.timer = setTimeout(() => this.#open(), pause * (0.75 + Math.random() / 2));
    this.#askWhy();
  }

  /** An EventSource doesn't tell what the answer was. */
  async #askWhy() {
    const asking = new AbortController();
    try {
      const answer = await fetch(`live/feed?${this.query}`, { signal: asking.signal });
      if (!answer.ok && !this.source) this.callbacks.state("lost", (await answer.text()).trim());
    } catch {
      // The service is away: that is said already.
    } finally {
      asking.abort();
    }
  }

  #watch() {
    if (this.source && performance.now() - this.heard > SILENCE_MS) {
      this.#failed();
      this.callbacks.state("lost");
      this.heard = performance.now();
      if (this.source.readyState !== EventSource.CONNECTING) this.#open();
    }
  }

  #close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }
}
