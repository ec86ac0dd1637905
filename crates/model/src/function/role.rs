//! The ARN of an IAM role: its form, which is all that is known of it here.

use crate::error::{Code, Error};

/// Longest ARN of a role, in bytes: a path of 512 and a name of 64 characters (IAM, "IAM and AWS STS quotas") and what stands before.
const ROLE_BYTES: usize = 640;
/// Digits of an account.
const ACCOUNT_DIGITS: usize = 12;

/// `arn:PARTITION:iam::ACCOUNT:role/[PATH/]NAME` (AWS Lambda API reference, `Role`).
pub(super) fn validate(arn: &str) -> Result<(), Error> {
    if arn.len() <= ROLE_BYTES && is_role(arn) {
        return Ok(());
    }
    Err(Error::caller(
        Code::InvalidParameter,
        "role is not valid: expected the ARN of an IAM role, such as arn:aws:iam::000000000000:role/any",
    ))
}

fn is_role(arn: &str) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let [scheme, partition, service, region, account, resource] = parts[..] else { return false };
    let name = resource.strip_prefix("role/").unwrap_or_default();
    let named = |c: char| c.is_ascii_alphanumeric() || "+=,.@-_/".contains(c);
    scheme == "arn"
        && partition.starts_with("aws")
        && partition.chars().all(|c| c.is_ascii_alphabetic() || c == '-')
        && (service, region) == ("iam", "")
        && account.len() == ACCOUNT_DIGITS
        && account.bytes().all(|b| b.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_have_a_form() {
        for good in [
            "arn:aws:iam::123456789012:role/any",
            "arn:aws-cn:iam::123456789012:role/service-role/a+b=c,d.e@f_g",
        ] {
            validate(good).unwrap();
        }
        for bad in [
            "",
            "role",
            "arn:aws:iam::123456789012:user/x",
            "arn:aws:iam::1234:role/x",
            "arn:aws:iam:eu-west-1:123456789012:role/x",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::123456789012:role/a b",
            "arn:oops:iam::123456789012:role/x",
            &format!("arn:aws:iam::123456789012:role/{}", "x".repeat(ROLE_BYTES)),
        ] {
            let e = validate(bad).unwrap_err();
            assert!(e.message().starts_with("role "), "{bad}: {e}");
        }
    }
}
