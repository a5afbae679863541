/** The rate of a transfer, and the remaining time. */

import { formatBytes, formatDuration } from "../format.ts";

const INTERVAL = 500; // ms between two measurements
const SMOOTHING = 0.7; // the weight of the earlier rate

export class TransferRate {
  private at: number | null = null;
  private sent = 0;
  private rate: number | null = null;

  /** Discard all measurements; return an empty text. */
  reset(): string {
    this.at = this.rate = null;
    return "";
  }

  /**
   * Record how many bytes were sent until now, and the size.
   *
   * It returns a text with the rate, when it is known, and the remaining time, if the size is known.
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
