//! Names of functions as clients write them, and ARNs as they are answered.
//!
//! A function is named by its name, by a partial ARN or by a whole one, each with or without a qualifier (AWS Lambda API reference,
//! `FunctionName`). The account in an ARN stands for the namespace, the region is whatever the client was set to.

use model::function::account_id;
use model::ids::{FunctionKey, FunctionRef, NamespaceName, Qualifier};

use super::error::{Fault, Kind};

/// The region of ARNs where a request names none.
pub(super) const REGION: &str = "us-east-1";
/// Longest name of a region, in characters.
const REGION_CHARS: usize = 32;
/// Digits of an account.
const ACCOUNT_DIGITS: usize = 12;
/// Longest name that is looked at, in bytes: an ARN with the longest name and qualifier is shorter.
const NAME_BYTES: usize = 400;

/// Where the functions of a caller are, and how ARNs say it.
#[derive(Clone, Debug)]
pub(super) struct Home {
    /// The namespace.
    pub namespace: NamespaceName,
    /// Its account.
    pub account: String,
    /// What the client calls its region.
    pub region: String,
    /// Whether every account is this one.
    pub any_account: bool,
}

/// A function as a request names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The function, at the qualifier or at `$LATEST`.
    pub reference: FunctionRef,
    /// Whether a qualifier was given.
    pub qualified: bool,
}

impl Target {
    /// The function.
    pub(super) fn key(&self) -> &FunctionKey {
        &self.reference.key
    }

    /// The qualifier, if one was given.
    pub(super) fn qualifier(&self) -> Option<&Qualifier> {
        self.qualified.then_some(&self.reference.qualifier)
    }
}

/// Whether a text can be a region's name.
pub(super) fn is_region(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.len() <= REGION_CHARS && text.bytes().all(plain)
}

fn is_account(text: &str) -> bool {
    text.len() == ACCOUNT_DIGITS && text.bytes().all(|b| b.is_ascii_digit())
}

impl Home {
    pub(super) fn new(namespace: NamespaceName, region: &str, any_account: bool) -> Self {
        let account = account_id(&namespace);
        Self { namespace, account, region: region.to_owned(), any_account }
    }

    /// The ARN of a function.
    pub(super) fn arn(&self, key: &FunctionKey, qualifier: Option<&Qualifier>) -> String {
        let Self { account, region, .. } = self;
        let arn = format!("arn:aws:lambda:{region}:{account}:function:{}", key.name);
        match qualifier {
            Some(qualifier) => format!("{arn}:{qualifier}"),
            None => arn,
        }
    }

    /// Whether an ARN's account is the caller's.
    pub(super) fn check_account(&self, account: &str, named: &str) -> Result<(), Fault> {
        if self.any_account || account == self.account {
            return Ok(());
        }
        let message = format!(
            "the access key is not authorized for {named}: expected account {}",
            self.account
        );
        Err(Fault::new(Kind::DENIED, message))
    }

    /// The function that a request names, with the qualifier that it gives beside the name.
    pub(super) fn target(&self, named: &str, qualifier: Option<&str>) -> Result<Target, Fault> {
        if named.len() > NAME_BYTES {
            return Err(bad_name(&format!("it has over {NAME_BYTES} bytes")));
        }
        let (name, own) = self.split(named)?;
        let key = FunctionKey { namespace: self.namespace.clone(), name: name.parse()? };
        let own = own.map(str::parse::<Qualifier>).transpose()?;
        let given = qualifier.map(str::parse::<Qualifier>).transpose()?;
        if let (Some(own), Some(given)) = (&own, &given)
            && own != given
        {
            return Err(Fault::invalid(format!(
                "The derived qualifier from the function name does not match the specified qualifier: '{own}' and '{given}'"
            )));
        }
        let qualifier = own.or(given);
        let qualified = qualifier.is_some();
        let reference = FunctionRef { key, qualifier: qualifier.unwrap_or_default() };
        Ok(Target { reference, qualified })
    }

    /// Name and qualifier.
    fn split<'a>(&self, named: &'a str) -> Result<(&'a str, Option<&'a str>), Fault> {
        let mut parts = named.split(':').peekable();
        let whole = parts.next_if_eq(&"arn").is_some();
        if whole {
            let partition = parts.next().unwrap_or_default();
            let service = parts.next().unwrap_or_default();
            if !partition.starts_with("aws") || service != "lambda" {
                return Err(bad_name("it is no ARN of this service"));
            }
            let region = parts.next().unwrap_or_default();
            if !is_region(region) {
                return Err(bad_name("its ARN names no region"));
            }
        }
        // A name of twelve digits is an account only if something follows.
        let mut rest = parts.clone();
        let behind = rest.next().is_some_and(is_account) && rest.next().is_some();
        match if whole || behind { parts.next() } else { None } {
            Some(account) if is_account(account) => self.check_account(account, named)?,
            None if !whole => {}
            _ => return Err(bad_name("its ARN names no account")),
        }
        let mut rest = parts.clone();
        let word = rest.next() == Some("function") && rest.next().is_some();
        if word {
            parts.next();
        } else if whole {
            return Err(bad_name("its ARN is not that of a function"));
        }
        let (name, qualifier) = (parts.next().unwrap_or_default(), parts.next());
        if parts.next().is_some() {
            return Err(bad_name("it has too many parts"));
        }
        Ok((name, qualifier))
    }
}

fn bad_name(why: &str) -> Fault {
    Fault::invalid(format!(
        "FunctionName is not valid: {why}: expected NAME, ACCOUNT:function:NAME or arn:aws:lambda:REGION:ACCOUNT:function:NAME, each with or without :QUALIFIER"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> Home {
        Home::new("default".parse().unwrap(), "eu-west-1", false)
    }

    #[test]
    fn functions_are_named_in_every_form() {
        for (named, target, qualified) in [
            ("f", "default/f:$LATEST", false),
            ("f:$LATEST", "default/f:$LATEST", true),
            ("f:3", "default/f:3", true),
            ("f:live", "default/f:live", true),
            ("function:f", "default/f:$LATEST", false),
            ("000000000000:f:live", "default/f:live", true),
            ("000000000000:function:f", "default/f:$LATEST", false),
            ("000000000000:function:f:1", "default/f:1", true),
            ("arn:aws:lambda:eu-west-1:000000000000:function:f", "default/f:$LATEST", false),
            ("arn:aws-cn:lambda:local:000000000000:function:f:live", "default/f:live", true),
            ("123456789012", "default/123456789012:$LATEST", false),
            ("function", "default/function:$LATEST", false),
        ] {
            let found = home().target(named, None).unwrap_or_else(|e| panic!("{named}: {e:?}"));
            assert_eq!(
                (found.reference.to_string().as_str(), found.qualified),
                (target, qualified)
            );
        }
        let both = home().target("f:live", Some("live")).unwrap();
        assert_eq!(both.reference.to_string(), "default/f:live");
        let beside = home().target("f", Some("2")).unwrap();
        assert!(beside.qualified && beside.reference.to_string() == "default/f:2");
    }

    #[test]
    fn other_names_are_refused() {
        for bad in [
            "",
            "a b",
            "f:",
            "f:0",
            "a:b:c",
            "arn:aws:s3:::bucket",
            "arn:aws:lambda:eu-west-1:000000000000:layer:f",
            "arn:aws:lambda:eu-west-1:function:f",
            "arn:aws:lambda::000000000000:function:f",
            "arn:aws:lambda:eu-west-1:000000000000:function:f:1:2",
            "000000000001:function:f",
            &"x".repeat(500),
        ] {
            home().target(bad, None).unwrap_err();
        }
        home().target("f:1", Some("2")).unwrap_err();
        let dev = Home { any_account: true, ..home() };
        dev.target("123456789012:function:f", None).unwrap();
    }

    #[test]
    fn arns_name_the_region_of_the_client() {
        let key = home().target("f", None).unwrap().reference.key;
        assert_eq!(
            home().arn(&key, Some(&Qualifier::Version(3))),
            "arn:aws:lambda:eu-west-1:000000000000:function:f:3"
        );
        for bad in ["", "EU", "a_b", &"x".repeat(33)] {
            assert!(!is_region(bad), "{bad}");
        }
    }
}
