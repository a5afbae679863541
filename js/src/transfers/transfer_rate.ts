/** How fast a transfer is. */

import { formatBytes } from "../format.ts";

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

  /** Take in how many bytes were sent by now; return the rate for people, once it is known. */
  update(sent: number): string {
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
    return this.rate ? `${formatBytes(this.rate)}/s` : "";
  }
}
