//! The vault on a real folder: locked, unlocked, refused, rotated, and cut off at every step.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use model::Code;
use model::ids::FunctionKey;
use model::ports::Vault;
use model::secret::{Sealed, SecretPlace, SecretText};
use store::Store;
use store::vault::{KeySource, Keyring, rotate};
use tempfile::TempDir;

use crate::support::{key, open_at};

struct Folder {
    temp: TempDir,
    store: Store,
    function: FunctionKey,
}

impl Folder {
    async fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let store = open_at(temp.path()).await.unwrap();
        Self { temp, store, function: key("f") }
    }

    fn key_file(&self, name: &str) -> KeySource {
        KeySource::KeyFile(self.temp.path().join(name))
    }

    fn passphrase(&self, text: &str) -> KeySource {
        let path = self.temp.path().join(format!("passphrase {text}"));
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        KeySource::PassphraseFile(path)
    }

    async fn open(&self, source: &KeySource) -> model::Result<Keyring> {
        Keyring::open(&self.store.meta, source).await
    }

    async fn refused(&self, source: &KeySource, part: &str) {
        let e = self.open(source).await.unwrap_err();
        assert_eq!(e.code(), Code::StorageUnusable, "{e}");
        let said = format!("{} {}", e.message(), e.hint().unwrap_or_default());
        assert!(said.contains(part), "{said}");
    }

    fn place(&self) -> SecretPlace<'_> {
        SecretPlace { function: &self.function, variable: "TOKEN" }
    }

    fn seal(&self, vault: &Keyring) -> Sealed {
        vault.seal(self.place(), &SecretText::new("hunter2")).unwrap()
    }

    fn opens(&self, vault: &Keyring, sealed: &Sealed) -> bool {
        vault.open(self.place(), sealed).is_ok_and(|text| text.expose() == "hunter2")
    }

    async fn record(&self) -> Vec<u8> {
        self.store.meta.get("vault/keys").await.unwrap().unwrap().value.to_vec()
    }
}

#[tokio::test]
async fn a_key_file_opens_what_it_sealed_and_no_other_does() {
    let folder = Folder::new().await;
    let own = folder.key_file("own");
    let vault = folder.open(&own).await.unwrap();
    model::suites::vault::run(&vault);
    let sealed = folder.seal(&vault);
    let record = folder.record().await;

    let other = folder.key_file("other");
    folder.refused(&other, "missing").await;
    assert!(!folder.temp.path().join("other").exists(), "only a new vault makes a key file");
    Keyring::open(&Folder::new().await.store.meta, &other).await.unwrap();
    folder.refused(&other, "does not open").await;
    folder.refused(&folder.passphrase("correct horse battery"), "with a key file").await;
    fs::set_permissions(folder.temp.path().join("own"), Permissions::from_mode(0o644)).unwrap();
    folder.refused(&own, "expected mode 0600").await;

    fs::set_permissions(folder.temp.path().join("own"), Permissions::from_mode(0o600)).unwrap();
    assert!(folder.opens(&folder.open(&own).await.unwrap(), &sealed));
    assert_eq!(folder.record().await, record, "nothing was changed by what was refused");
}

#[tokio::test]
async fn a_passphrase_opens_what_it_sealed_and_no_other_does() {
    let folder = Folder::new().await;
    let own = folder.passphrase("correct horse battery");
    let sealed = folder.seal(&folder.open(&own).await.unwrap());
    assert!(folder.opens(&folder.open(&own).await.unwrap(), &sealed));
    folder.refused(&folder.passphrase("incorrect horse battery"), "does not open").await;
    folder.refused(&folder.passphrase("short"), "at least 12").await;
    folder.refused(&folder.key_file("key"), "with a passphrase").await;
    assert!(!folder.temp.path().join("key").exists());
    let record = String::from_utf8(folder.record().await).unwrap();
    assert!(record.contains("memory_kib") && !record.contains("horse"), "{record}");
}

#[tokio::test]
async fn a_damaged_or_newer_record_is_said() {
    let folder = Folder::new().await;
    let own = folder.key_file("own");
    folder.open(&own).await.unwrap();
    let record = String::from_utf8(folder.record().await).unwrap();
    for (text, part) in [
        ("{}".to_owned(), "damaged"),
        (record.replace("\"format\":1", "\"format\":2"), "format 2"),
        (record.replace("\"sealed\":\"", "\"sealed\":\"AAAA"), "does not open"),
    ] {
        let meta = &folder.store.meta;
        let revision = meta.get("vault/keys").await.unwrap().unwrap().revision;
        let expect = model::ports::Expect::Revision(revision);
        meta.put_if("vault/keys", expect, text.into()).await.unwrap();
        folder.refused(&own, part).await;
    }
}

#[tokio::test]
async fn keys_are_rotated_in_place_and_to_others() {
    let folder = Folder::new().await;
    let (first, second) = (folder.key_file("first"), folder.key_file("second"));
    let phrase = folder.passphrase("correct horse battery");
    let mut sealed = folder.seal(&folder.open(&first).await.unwrap());
    let steps = [
        (&first, &first),
        (&first, &second),
        (&second, &phrase),
        (&phrase, &phrase),
        (&phrase, &first),
    ];
    for (old, new) in steps {
        let before = fs::read(folder.temp.path().join("first")).unwrap();
        let vault = rotate::begin(&folder.store.meta, old, new).await.unwrap();
        let again = vault.reseal(folder.place(), &sealed).unwrap().unwrap();
        // Cut off here, everything opens, old and new.
        let both = folder.open(new).await.unwrap();
        assert!(folder.opens(&both, &sealed) && folder.opens(&both, &again));
        rotate::finish(&folder.store.meta).await.unwrap();
        let vault = folder.open(new).await.unwrap();
        assert!(folder.opens(&vault, &again));
        assert!(!folder.opens(&vault, &sealed), "the old data key is gone");
        if old != new {
            folder.open(old).await.unwrap_err();
        }
        let after = fs::read(folder.temp.path().join("first")).unwrap();
        assert_eq!(after != before, (old, new) == (&first, &first));
        sealed = again;
    }
}

#[tokio::test]
async fn a_rotation_in_place_that_was_cut_off_is_finished() {
    let folder = Folder::new().await;
    let own = folder.key_file("own");
    let (path, waiting) = (folder.temp.path().join("own"), folder.temp.path().join("own.new"));
    let sealed = folder.seal(&folder.open(&own).await.unwrap());

    // Before the record: the new key was written and nothing else. The old one counts, and the next rotation starts anew.
    fs::write(&waiting, "half a k").unwrap();
    fs::set_permissions(&waiting, Permissions::from_mode(0o600)).unwrap();
    assert!(folder.opens(&folder.open(&own).await.unwrap(), &sealed));

    // After the record: the old key file is in place still, or is gone.
    for missing in [false, true] {
        let old = fs::read(&path).unwrap();
        let vault = rotate::begin(&folder.store.meta, &own, &own).await.unwrap();
        fs::rename(&path, &waiting).unwrap();
        if !missing {
            restore(&path, &old);
        }
        let found = folder.open(&own).await.unwrap();
        assert!(folder.opens(&found, &sealed));
        assert_eq!(format!("{found:?}"), format!("{vault:?}"));
        assert!(!waiting.exists() && fs::read(&path).unwrap() != old);
    }
}

fn restore(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn a_refused_rotation_changes_nothing() {
    let folder = Folder::new().await;
    let own = folder.key_file("own");
    let meta = &folder.store.meta;
    rotate::begin(meta, &own, &own).await.unwrap_err();
    assert!(!folder.temp.path().join("own").exists(), "there was no vault to rotate");
    folder.open(&own).await.unwrap();
    let record = folder.record().await;
    rotate::begin(meta, &folder.key_file("other"), &own).await.unwrap_err();
    rotate::begin(meta, &own, &folder.passphrase("short")).await.unwrap_err();
    assert_eq!(folder.record().await, record);
    folder.open(&own).await.unwrap();
}
