//! Writes the table of settings down as `docs/reference/config.md`.

use std::fmt::Write as _;

use super::settings::{ALL, Default, Kind, NumberDefault, Setting};

const HEAD: &str = "# Configuration of the daemon

Made by `cargo x gen` from `crates/hanshu/src/config/settings.rs`: change it there.

A setting comes from, weakest first: its default, the file given by `--config FILE` or `HANSHU_CONFIG`, its environment variable, its flag.
Unknown keys and variables that start with `HANSHU_` but name no setting are refused. The variables `HANSHU_URL`, `HANSHU_KEY`,
`HANSHU_NAMESPACE` and `HANSHU_OUTPUT` belong to the command line, not to the daemon.

```toml
listen = \"127.0.0.1:9000\"

[engine]
keep_alive_seconds = 300
```
";

/// The page, whole.
pub(crate) fn reference_markdown() -> String {
    let mut page = HEAD.to_owned();
    let mut section = "";
    for setting in ALL {
        let (head, _) = setting.key.split_once('.').unwrap_or(("", setting.key));
        if page.len() == HEAD.len() || head != section {
            let title =
                if head.is_empty() { "Top of the file".into() } else { format!("`[{head}]`") };
            // Writing to a String cannot fail, here and below.
            write!(page, "\n## {title}\n").unwrap_or_default();
            section = head;
        }
        entry(&mut page, setting);
    }
    page
}

fn entry(page: &mut String, setting: &Setting) {
    let key = setting.key.rsplit('.').next().unwrap_or(setting.key);
    let flag = setting.flag.map(|f| format!(" · flag `{f}`")).unwrap_or_default();
    let (takes, default) = match setting.kind {
        Kind::Address { default } => ("`ADDR:PORT`".into(), format!("`{default}`")),
        Kind::Flag => ("`true` or `false`".into(), "`false`".into()),
        Kind::Text { default: Default::Fixed(d) } => ("text".into(), format!("`{d}`")),
        Kind::Text { default: Default::Computed(d) } => ("text".into(), d.to_owned()),
        Kind::Choice { options, default } => {
            (format!("`{}`", options.join("`, `")), format!("`{default}`"))
        }
        Kind::Url { absent } => ("a URL".into(), format!("none: {absent}")),
        Kind::Number { unit, min, max, default } => {
            let default = match default {
                NumberDefault::Fixed(n) => n.to_string(),
                NumberDefault::Computed(d) => d.to_owned(),
            };
            (format!("{min} to {max} ({unit})"), default)
        }
    };
    write!(
        page,
        "\n### `{key}`\n\n{}\n\n- takes {takes}\n- default: {default}\n- variable `{}`{flag}\n",
        setting.doc,
        setting.variable(),
    )
    .unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_on_the_page() {
        let page = reference_markdown();
        for setting in ALL {
            assert!(page.contains(setting.doc), "{}", setting.key);
            assert!(page.contains(&format!("`{}`", setting.variable())), "{}", setting.key);
        }
        assert_eq!(page.matches("## `[engine]`").count(), 1);
    }
}
