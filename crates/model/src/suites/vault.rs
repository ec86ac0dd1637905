//! What every vault has to do.

#![expect(clippy::expect_used, reason = "a suite panics at a broken promise")]

use crate::error::Code;
use crate::ids::{FunctionKey, FunctionRef, RequestId};
use crate::ports::Vault;
use crate::secret::{Sealed, SecretPlace, SecretText};

fn function(name: &str) -> FunctionKey {
    FunctionRef::parse("default", name).expect("a valid name").key
}

/// Runs the whole suite.
pub fn run(vault: &dyn Vault) {
    what_was_sealed_opens_at_its_place(vault);
    nothing_opens_elsewhere(vault);
    nothing_changed_opens(vault);
    envelopes_tell_nothing(vault);
}

fn what_was_sealed_opens_at_its_place(vault: &dyn Vault) {
    let function = function("f");
    let place = SecretPlace { function: &function, variable: "TOKEN" };
    for text in ["", "x", "two\nlines = ü", &"long".repeat(8192)] {
        let sealed = vault.seal(place, &SecretText::new(text)).expect("it can be sealed");
        assert_eq!(sealed.bytes, text.len());
        assert_eq!(vault.open(place, &sealed).expect("it can be opened").expose(), text);
    }
}

fn nothing_opens_elsewhere(vault: &dyn Vault) {
    let (own, other) = (function("f"), function("g"));
    let far = FunctionRef::parse("team", "f").expect("a valid name").key;
    let place = SecretPlace { function: &own, variable: "TOKEN" };
    let sealed = vault.seal(place, &SecretText::new("hunter2")).expect("it can be sealed");
    for elsewhere in [
        SecretPlace { function: &other, ..place },
        SecretPlace { function: &far, ..place },
        SecretPlace { variable: "TOKE", ..place },
        SecretPlace { variable: "", ..place },
    ] {
        refused(vault, elsewhere, &sealed);
    }
}

fn nothing_changed_opens(vault: &dyn Vault) {
    let function = function("f");
    let place = SecretPlace { function: &function, variable: "TOKEN" };
    let seal = |text| vault.seal(place, &SecretText::new(text)).expect("it can be sealed");
    let (one, two) = (seal("hunter2"), seal("hunter3"));
    refused(vault, place, &Sealed { id: two.id, ..one.clone() });
    refused(vault, place, &Sealed { id: RequestId::generate(), ..one.clone() });
    for envelope in ["", "1", "1::", "999:x:y", "not one of ours"] {
        refused(vault, place, &Sealed { envelope: envelope.into(), ..one.clone() });
    }
    // Every character counts.
    for at in 0..one.envelope.len() {
        let mut envelope = one.envelope.clone().into_bytes();
        envelope[at] = if envelope[at] == b'A' { b'B' } else { b'A' };
        let envelope = String::from_utf8(envelope).expect("an envelope is ASCII");
        refused(vault, place, &Sealed { envelope, ..one.clone() });
    }
}

fn envelopes_tell_nothing(vault: &dyn Vault) {
    let function = function("f");
    let place = SecretPlace { function: &function, variable: "TOKEN" };
    let text = SecretText::new("hunter2");
    let seal = || vault.seal(place, &text).expect("it can be sealed");
    let (one, two) = (seal(), seal());
    assert_ne!(one.id, two.id);
    assert_ne!(one.envelope, two.envelope, "the same text gives another envelope each time");
    let shown = format!("{}{vault:?}{one:?}", serde_json::to_string(&one).expect("JSON"));
    assert!(!shown.contains("hunter2"), "{shown}");
}

fn refused(vault: &dyn Vault, place: SecretPlace<'_>, sealed: &Sealed) {
    let error = vault.open(place, sealed).expect_err("it must not open");
    assert_eq!(error.code(), Code::StorageUnusable, "{error}");
    let said = format!("{error} {error:?}");
    assert!(!said.contains("hunter"), "{said}");
}
