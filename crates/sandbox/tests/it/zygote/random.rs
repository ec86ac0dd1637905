//! What has to differ from child to child: a thousand of each language are asked for what they take for random.

use std::collections::{BTreeMap, HashSet};

use futures_util::future::join_all;
use model::function::Version;
use serde_json::{Value, json};

use super::{MEMORY_MB, ask, function, start_forked, start_rested};
use crate::support::World;

/// How many.
const CHILDREN: usize = 1_000;
/// All of them are one zygote's.
const CHILDREN_OF_ONE: u32 = 2_000;
/// How many are there at once.
const AT_ONCE: usize = 10;
/// How many of those that lay ready.
const RESTED: usize = 20;

/// One child in so many is asked for what takes the library long to load: TLS, and in Java generators of keys. Its bits are the generator's that all are asked
/// for.
const DEAR_EVERY: usize = 50;

const PYTHON: &str = "import os, random, secrets, ssl, tempfile, uuid
def client_random():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(incoming, outgoing, server_hostname='localhost')
    try: client.do_handshake()
    except ssl.SSLWantReadError: pass
    return outgoing.read()[11:43].hex()
said = {
    'os.urandom': os.urandom(16).hex(), 'random.random': random.random(), 'random.getrandbits': random.getrandbits(64),
    'random.Random': random.Random().random(), 'uuid.uuid4': str(uuid.uuid4()), 'secrets.token_hex': secrets.token_hex(16),
    'tempfile': next(tempfile._get_candidate_names()), 'ssl.RAND_bytes': ssl.RAND_bytes(16).hex(),
}";
const PYTHON_TLS: &str = "
said['TLS client random'] = client_random()";
const NODE: &str = "const crypto = require('crypto');
const said = {
  'Math.random': Math.random(), 'crypto.randomUUID': crypto.randomUUID(), 'crypto.randomBytes': crypto.randomBytes(16).toString('hex'),
  'crypto.getRandomValues': Buffer.from(crypto.webcrypto.getRandomValues(new Uint8Array(16))).toString('hex'),
  'crypto.randomInt': crypto.randomInt(2 ** 47),
};
const pool = (done) => crypto.randomBytes(16, (_, bytes) => { said['in the pool'] = bytes.toString('hex'); done(said); });
";
const NODE_END: &str = "return new Promise(pool)";
const NODE_TLS: &str = "return new Promise((done) => {
  const { Duplex } = require('stream');
  const socket = new Duplex({ read() {}, write: (chunk, _, next) => {
    said['TLS client random'] = chunk.subarray(11, 43).toString('hex');
    pool(done);
    next();
  } });
  require('tls').connect({ socket, servername: 'localhost', ca: [] }).on('error', () => {});
});";

pub(super) async fn nothing_random_is_twice_in_python(_: &World) {
    let with_tls = [PYTHON, PYTHON_TLS].concat();
    nothing_is_twice("python3", [PYTHON, &with_tls]).await;
}

pub(super) async fn nothing_random_is_twice_in_node(_: &World) {
    let [plain, with_tls] = [NODE_END, NODE_TLS].map(|end| [NODE, end].concat());
    nothing_is_twice("nodejs", [&plain, &with_tls]).await;
}

/// `random` of `prestart/Strangers.java`.
pub(super) async fn nothing_random_is_twice_in_java(_: &World) {
    nothing_is_twice("java17", ["random", "random and dear"]).await;
}

async fn nothing_is_twice(runtime: &str, [most, some]: [&str; 2]) {
    let world = World::forked_by(CHILDREN_OF_ONE).await;
    let version = function(&world, runtime).await;
    let lane = async |lane: usize| {
        let mut said = Vec::new();
        for n in 0..CHILDREN / AT_ONCE {
            let text = if (n * AT_ONCE + lane).is_multiple_of(DEAR_EVERY) { some } else { most };
            said.push(one_says(&world, &version, text).await);
        }
        said
    };
    let mut seen = Seen::default();
    join_all((0..AT_ONCE).map(lane)).await.into_iter().flatten().for_each(|said| seen.add(said));
    seen.expect_each(CHILDREN);
    world.end().await;
}

/// What one child says.
async fn one_says(world: &World, version: &Version, text: &str) -> Value {
    let mut child = start_forked(world, version).await;
    let said = ask(&mut *child, json!({"run": text})).await;
    child.stop().await;
    said
}

/// What waited has taken the way of a call before it was asked.
pub(super) async fn nothing_random_is_twice_in_what_lay_ready(_: &World) {
    let world = World::ahead_by_zygote(MEMORY_MB).await;
    let node = [NODE, NODE_END].concat();
    for (runtime, text) in [("python3", PYTHON), ("nodejs", &*node), ("java17", "random")] {
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
