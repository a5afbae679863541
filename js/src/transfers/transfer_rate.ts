/** How fast a transfer is, and how long it will take. */

import { formatBytes, formatDuration } from "../format.ts";

const INTERVAL = 500; // ms between two measurements
const SMOOTHING = 0.7; // the weight of the rate so far

export class TransferRate {
  private at: number | null = null;
  private sent = 0;
  private rate: number | null = null;

  /** Forget what was measured; return an empty text. */
  reset(): string {
    this.at = this.rate = null;
    return "";
  }

  /**
   * Take in how many bytes were sent by now, of how many.
   *
   * It returns the rate for people once that is known, and the time left if the size is known.
   */
  update(sent: number, size: number | null = null): string {
    const now = performance.now();
    if (this.at === null) {
      this.at = now;
      this.sent = sent;
      return "";
    }
    if (now - this.at >= INTERVAL) {
      const rate = (1000 * (sent - this.sent)) / (now - this.at);
      this.rate = this.rate === null ? rate : SMOOTHING * this.rate + (1 - SMOOTHING) * rate;
      this.at = now;
      this.sent = sent;
    }
    if (!this.rate) return "";
    const left = size === null ? "" : ` · about ${formatDuration((size - sent) / this.rate)} left`;
    return `${formatBytes(this.rate)}/s${left}`;
  }
}
