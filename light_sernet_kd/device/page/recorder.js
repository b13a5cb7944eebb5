// Runs on the audio thread: sends what the microphone hears as blocks of one channel.

const BLOCK_SAMPLES = 2048;

class Recorder extends AudioWorkletProcessor {
  block = new Float32Array(BLOCK_SAMPLES);
  filled = 0;

  process([channels]) {
    if (!channels.length) return true; // the microphone is not connected yet
    // The graph hands over 128 samples at a time, which divide a block.
    for (let i = 0; i < channels[0].length; i++) {
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      this.block[this.filled++] = sum / channels.length;
    }
    if (this.filled === BLOCK_SAMPLES) {
      this.port.postMessage(this.block.slice());
      this.filled = 0;
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
