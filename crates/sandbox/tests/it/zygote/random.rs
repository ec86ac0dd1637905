//! What has to differ from child to child: a thousand of each language are asked for what they take for random.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use super::{MEMORY_MB, ask, function, start_forked, start_rested};
use crate::support::World;

/// How many. A zygote is recycled after as many, so its trial makes that two.
const CHILDREN: usize = 1_000;
/// How many are there at once.
const AT_ONCE: usize = 10;
/// How many of those that lay ready.
const RESTED: usize = 60;

/// One child in so many is asked for what takes Java's library long to load: generators of keys, and TLS.
const DEAR_EVERY: usize = 10;

const PYTHON: &str = "import os, random, secrets, ssl, tempfile, uuid
def client_random():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname='localhost')
    try: client.do_handshake()
    except ssl.SSLWantReadError: pass
    return outgoing.read()[11:43].hex()
said = {
    'os.urandom': os.urandom(16).hex(), 'random.random': random.random(), 'random.getrandbits': random.getrandbits(64),
    'random.Random': random.Random().random(), 'uuid.uuid4': str(uuid.uuid4()), 'secrets.token_hex': secrets.token_hex(16),
    'tempfile': next(tempfile._get_candidate_names()), 'ssl.RAND_bytes': ssl.RAND_bytes(16).hex(), 'TLS client random': client_random(),
}";
const NODE: &str = "const crypto = require('crypto');
const { Duplex } = require('stream');
return new Promise((done) => {
  const said = {
    'Math.random': Math.random(), 'crypto.randomUUID': crypto.randomUUID(), 'crypto.randomBytes': crypto.randomBytes(16).toString('hex'),
    'crypto.getRandomValues': Buffer.from(crypto.webcrypto.getRandomValues(new Uint8Array(16))).toString('hex'),
    'crypto.randomInt': crypto.randomInt(2 ** 47),
  };
  const socket = new Duplex({ read() {}, write: (chunk, _, next) => {
    said['TLS client random'] = chunk.subarray(11, 43).toString('hex');
    crypto.randomBytes(16, (_, bytes) => { said['in the pool'] = bytes.toString('hex'); done(said); });
    next();
  } });
  require('tls').connect({ socket, servername: 'localhost' }).on('error', () => {});
});";

pub(super) async fn nothing_random_is_twice_in_python(world: &World) {
    nothing_is_twice(world, "python3", [PYTHON; 2]).await;
}

pub(super) async fn nothing_random_is_twice_in_node(world: &World) {
    nothing_is_twice(world, "nodejs", [NODE; 2]).await;
}

/// `random` of `prestart/Strangers.java`.
pub(super) async fn nothing_random_is_twice_in_java(world: &World) {
    nothing_is_twice(world, "java17", ["random", "random and dear"]).await;
}

async fn nothing_is_twice(world: &World, runtime: &str, [most, some]: [&str; 2]) {
    let version = function(world, runtime).await;
    let mut seen = Seen::default();
    for _ in 0..CHILDREN / AT_ONCE {
        let mut children = Vec::new();
        for _ in 0..AT_ONCE {
            children.push(start_forked(world, &version).await);
        }
        for (n, mut child) in children.into_iter().enumerate() {
            let text = if n % DEAR_EVERY == 0 { some } else { most };
            seen.add(ask(&mut *child, json!({"run": text})).await);
            child.stop().await;
        }
    }
    seen.expect_each(CHILDREN);
}

/// What waited has taken the way of a call before it was asked.
pub(super) async fn nothing_random_is_twice_in_what_lay_ready(_: &World) {
    let world = World::ahead_by_zygote(MEMORY_MB).await;
    for (runtime, text) in [("python3", PYTHON), ("nodejs", NODE), ("java17", "random")] {
        let version = function(&world, runtime).await;
        let mut seen = Seen::default();
        for _ in 0..RESTED {
            let mut child = start_rested(&world, &version).await;
            seen.add(ask(&mut *child, json!({"run": text})).await);
            child.stop().await;
        }
        seen.expect_each(RESTED);
    }
    world.end().await;
}

/// What was said, by name.
#[derive(Debug, Default)]
struct Seen(BTreeMap<String, HashSet<String>>);

impl Seen {
    fn add(&mut self, said: Value) {
        let Value::Object(said) = said else { panic!("{said}") };
        for (name, value) in said {
            let value = value.to_string();
            assert!(value.len() > 6, "{name}: {value}");
            assert!(self.0.entry(name.clone()).or_default().insert(value), "{name}");
        }
    }

    /// Most was said by each; some by one in so many.
    fn expect_each(&self, children: usize) {
        let counts = self.0.values().map(HashSet::len);
        let whole = counts.clone().filter(|count| *count == children).count();
        let enough = counts.clone().all(|count| count >= children / DEAR_EVERY);
        assert!(whole > 5 && enough, "{:?}", counts.collect::<Vec<_>>());
    }
}
