use http::Request;

use super::*;

/// When all of these were signed: 2026-01-31T12:00:00Z.
const NOW: UnixMillis = UnixMillis(1_769_860_800_000);
const CREDENTIAL: &str = "HSAKTESTTESTTESTTEST/20260131/eu-west-1/lambda/aws4_request";

fn secret() -> SecretText {
    SecretText::new("c2VjcmV0+secret/secret+c2VjcmV0secret00")
}

fn parts(method: &str, path: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(path).header("host", "127.0.0.1:9000");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn authorization(signed: &str, signature: &str) -> String {
    format!("{ALGORITHM} Credential={CREDENTIAL}, SignedHeaders={signed}, Signature={signature}")
}

/// Requests that botocore 1.43 signed.
fn signed() -> Vec<(Parts, &'static [u8])> {
    let date = ("x-amz-date", "20260131T120000Z");
    let list = authorization(
        "host;x-amz-date",
        "92757adee6cd3aa6ca31dc63ccc29dd8c0f6677fdb06ccc527640c87c4587398",
    );
    let invoke = authorization(
        "content-type;host;x-amz-date;x-amz-invocation-type",
        "07489c88ce23c8be6736bd5609a743add14eaeeb9d39b14d50cd4cf1500fb61b",
    );
    let untag = authorization(
        "host;x-amz-date",
        "adff8720f78d3b56e020b50478b01ddbee46fa59f31c6e44efd102d290bac515",
    );
    vec![
        (
            parts(
                "GET",
                "/2015-03-31/functions/?MaxItems=10&Marker=a%2Fb%20c",
                &[date, ("authorization", &list)],
            ),
            b"",
        ),
        (
            parts(
                "POST",
                "/2015-03-31/functions/f%3Alive/invocations",
                &[
                    date,
                    ("authorization", &invoke),
                    ("x-amz-invocation-type", "  Event   x "),
                    ("content-type", "application/json"),
                    ("content-length", "7"),
                ],
            ),
            b"{\"a\":1}",
        ),
        (
            parts(
                "DELETE",
                "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aeu-west-1%3A000000000000%3Afunction%3Af?tagKeys=b&tagKeys=a",
                &[date, ("authorization", &untag)],
            ),
            b"",
        ),
        (
            parts(
                "GET",
                "/2015-03-31/functions/f/code?Qualifier=%24LATEST&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=HSAKTESTTESTTESTTEST%2F20260131%2Feu-west-1%2Flambda%2Faws4_request&X-Amz-Date=20260131T120000Z&X-Amz-Expires=600&X-Amz-SignedHeaders=host&X-Amz-Signature=797742cf5722c849537959a95f524dde0af8e7adf33e6f1ebb1993e436c96132",
                &[],
            ),
            b"",
        ),
    ]
}

#[test]
fn what_others_signed_is_found_right() {
    for (parts, body) in signed() {
        let claim = Claim::read(&parts).unwrap();
        assert_eq!(claim.access_key, "HSAKTESTTESTTESTTEST");
        assert_eq!(claim.region, "eu-west-1");
        claim.check_time(NOW).unwrap();
        claim.check(&secret(), &parts, body).unwrap_or_else(|e| panic!("{}: {e:?}", parts.uri));
    }
}

#[test]
fn whatever_is_changed_is_found_wrong() {
    for (parts, body) in signed() {
        let claim = Claim::read(&parts).unwrap();
        claim.check(&SecretText::new("another"), &parts, body).unwrap_err();
        claim.check(&secret(), &parts, b"{\"a\":2}").unwrap_err();
        let mut other = parts.clone();
        other.method = http::Method::PATCH;
        claim.check(&secret(), &other, body).unwrap_err();
        let mut other = parts.clone();
        other.headers.insert("host", "elsewhere".parse().unwrap());
        claim.check(&secret(), &other, body).unwrap_err();
        let mut other = parts.clone();
        other.uri = format!("{}&more=1", parts.uri)
            .replace("invocations&", "invocations?")
            .parse()
            .unwrap();
        claim.check(&secret(), &other, body).unwrap_err();
        let claim = Claim { time: "20260131T120001Z".into(), ..claim };
        claim.check(&secret(), &parts, body).unwrap_err();
    }
    // A signed header that says something else.
    let (mut parts, body) = signed().swap_remove(1);
    let claim = Claim::read(&parts).unwrap();
    parts.headers.insert("x-amz-invocation-type", "DryRun".parse().unwrap());
    claim.check(&secret(), &parts, body).unwrap_err();
}

#[test]
fn a_hash_of_the_body_has_to_be_right() {
    let hash = |said: &str, body: &[u8]| {
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static(CONTENT_HASH),
            said.parse().unwrap(),
        )]);
        body_hash(&headers, body)
    };
    let own = hex::encode(Sha256::digest(b"x"));
    assert_eq!(hash(&own, b"x").unwrap(), own);
    assert_eq!(hash(UNSIGNED, b"x").unwrap(), UNSIGNED);
    hash(&own, b"y").unwrap_err();
    hash("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", b"x").unwrap_err();
    assert_eq!(body_hash(&HeaderMap::new(), b"x").unwrap(), own);
}

#[test]
fn a_signature_is_good_for_its_time() {
    let (header, _) = signed().swap_remove(0);
    let (query, _) = signed().swap_remove(3);
    let minutes = |n: i64| UnixMillis(NOW.0.checked_add_signed(n * 60_000).unwrap());
    for (parts, good, bad) in [(header, [-5, 0, 5], [-6, 6]), (query, [-5, 0, 10], [-6, 11])] {
        let claim = Claim::read(&parts).unwrap();
        for at in good {
            claim.check_time(minutes(at)).unwrap();
        }
        for at in bad {
            claim.check_time(minutes(at)).unwrap_err();
        }
    }
}

#[test]
fn what_is_not_whole_is_refused() {
    let zeros = "0".repeat(64);
    let good = authorization("host;x-amz-date", &zeros);
    let date = ("x-amz-date", "20260131T120000Z");
    Claim::read(&parts("GET", "/", &[date, ("authorization", &good)])).unwrap();
    for (from, to) in [
        (ALGORITHM, "AWS4-ECDSA-P256-SHA256"),
        (ALGORITHM, "Bearer"),
        ("Credential", "credential"),
        ("Signature=0", "Signature=x"),
        ("SignedHeaders=host;", "SignedHeaders="),
        ("/lambda/", "/s3/"),
        ("/aws4_request", "/aws5_request"),
        ("/eu-west-1/", "/EU/"),
        ("/20260131/", "/20260130/"),
        ("/20260131/", "//"),
        ("/20260131/", "/2026/01/31/"),
        (", Signature", " Signature"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good);
        Claim::read(&parts("GET", "/", &[date, ("authorization", &bad)])).unwrap_err();
    }
    for date in ["2026-01-31T12:00:00Z", "20260131T120000", "20261331T120000Z", ""] {
        let headers = [("x-amz-date", date), ("authorization", good.as_str())];
        Claim::read(&parts("GET", "/", &headers)).unwrap_err();
    }
    Claim::read(&parts("GET", "/", &[("authorization", &good)])).unwrap_err();
    let http = ("date", "Sat, 31 Jan 2026 12:00:00 GMT");
    let claim = Claim::read(&parts("GET", "/", &[http, ("authorization", &good)])).unwrap();
    assert_eq!((claim.time.as_str(), claim.at), ("20260131T120000Z", NOW));
    Claim::read(&parts("GET", "/", &[])).unwrap_err();
    Claim::read(&parts("GET", "/?X-Amz-Signature=0", &[])).unwrap_err();
}

#[test]
fn a_url_that_is_signed_here_is_found_right() {
    let url = "http://127.0.0.1:9000/2015-03-31/functions/f/code?Qualifier=%24LATEST";
    let ten = Duration::from_secs(600);
    let key = secret();
    let signed =
        presigned(("HSAKTESTTESTTESTTEST", &key), "eu-west-1", &url.parse().unwrap(), NOW, ten);
    let path = signed.unwrap().replacen("http://127.0.0.1:9000", "", 1);
    let parts = parts("GET", &path, &[]);
    let claim = Claim::read(&parts).unwrap();
    claim.check_time(NOW.after(ten)).unwrap();
    claim.check(&key, &parts, b"").unwrap();
}
