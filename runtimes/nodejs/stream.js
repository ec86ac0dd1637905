// Answers in pieces: `awslambda.streamifyResponse` and `awslambda.HttpResponseStream`, as AWS Lambda's runtime for Node.js has them, and the stream that
// such a handler writes to. Loaded when a function first says `awslambda`; what the process is to it, bootstrap.js hands over.
//
// A piece is one packet. The first goes out at once, by a blocking write: the socket is empty. Later ones are written by a thread of Node's, for the socket is
// full as long as the caller reads slower than the function writes; the event loop goes on meanwhile, and the stream says when it wants more.

'use strict';

const { Writable } = require('stream');

const STREAMS = Symbol('streams');
const HEADER_BYTES = 8;
// A piece at most.
const PIECE_BYTES = 65536;
// What the stream holds before `write` says that it is enough: so much that there is a next piece when one has been written.
const HIGH_WATER_BYTES = 4 * PIECE_BYTES;
// Parts of one packet; the kernel takes 1024.
const PARTS_MAX = 512;

module.exports = ({ kinds, packetBytes, stringify, write, writeSync }) => {
  const { alloc, concat, from } = Buffer;

  function frame(kind, id, body) {
    const head = alloc(HEADER_BYTES + id.length);
    head.writeUInt32LE(id.length + body, 0);
    head[4] = kind;
    head.latin1Write(id, HEADER_BYTES);
    return head;
  }

  class ResponseStream extends Writable {
    #id;
    #started = false;
    #prelude = {};
    // Whether a thread is at a write, and what is to be done once it is not.
    #busy = false;
    #then;

    constructor(id) {
      super({ highWaterMark: HIGH_WATER_BYTES });
      this.#id = id;
    }

    get started() {
      return this.#started;
    }

    // What goes before the pieces; of no effect once they have begun.
    setContentType(type) {
      this.#prelude = { ...this.#prelude, headers: { ...this.#prelude.headers, 'content-type': type } };
    }

    setPrelude(prelude) {
      this.#prelude = prelude;
    }

    _write(chunk, encoding, done) {
      this.#send([chunk], done);
    }

    _writev(chunks, done) {
      this.#send(
        chunks.map(({ chunk }) => chunk),
        done,
      );
    }

    // Nothing was written: the answer is empty, and has a prelude all the same.
    _final(done) {
      try {
        this.#start();
        done();
      } catch (e) {
        done(e);
      }
    }

    _destroy(error, done) {
      done(error);
    }

    // Ends the stream without a word; `then` follows when no write is under way any more, so that nothing comes behind it.
    abandon(then) {
      this.#then = then;
      this.destroy();
      if (!this.#busy) this.#idle();
    }

    #idle() {
      const then = this.#then;
      this.#then = undefined;
      if (then !== undefined) then();
    }

    #start() {
      if (this.#started) return false;
      const prelude = from(stringify(this.#prelude) ?? '{}');
      if (HEADER_BYTES + this.#id.length + prelude.length > packetBytes) {
        throw new RangeError(`the metadata of the response has ${prelude.length} bytes: too many`);
      }
      this.#started = true;
      writeSync(concat([frame(kinds.STREAM_START, this.#id, prelude.length), prelude]));
      return true;
    }

    #send(chunks, done) {
      const packets = this.#packets(chunks);
      try {
        const first = packets.length > 0 && this.#start();
        if (first) writeSync(concat(packets.shift()));
      } catch (e) {
        done(e);
        return;
      }
      this.#sendNext(packets, done);
    }

    #sendNext(packets, done) {
      if (packets.length === 0 || this.#then !== undefined) {
        done();
        return;
      }
      this.#busy = true;
      write(packets.shift(), () => {
        this.#busy = false;
        if (this.#then !== undefined) this.#idle();
        else this.#sendNext(packets, done);
      });
    }

    // Cuts what is to be written into frames: lists of buffers, the first of which is the header. Of many small chunks one frame is made.
    #packets(chunks) {
      const packets = [];
      let parts = [];
      let bytes = 0;
      const close = () => {
        if (bytes > 0) packets.push([frame(kinds.CHUNK, this.#id, bytes), ...parts]);
        parts = [];
        bytes = 0;
      };
      for (const chunk of chunks) {
        for (let at = 0; at < chunk.length; ) {
          const part = chunk.subarray(at, at + PIECE_BYTES - bytes);
          parts.push(part);
          bytes += part.length;
          at += part.length;
          if (bytes === PIECE_BYTES || parts.length === PARTS_MAX) close();
        }
      }
      close();
      return packets;
    }
  }

  return {
    ResponseStream,
    isStreaming: (handler) => handler[STREAMS] === true,
    awslambda: {
      streamifyResponse(handler) {
        handler[STREAMS] = true;
        return handler;
      },
      HttpResponseStream: class HttpResponseStream {
        static from(stream, prelude) {
          if (!(stream instanceof ResponseStream)) throw new TypeError('expected the stream that the handler was given');
          stream.setPrelude(prelude);
          return stream;
        }
      },
    },
  };
};
