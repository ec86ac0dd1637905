//! What every command needs: the environment, the screen, and how to reach the daemon.

use std::path::Path;

use model::ids::{
    DEFAULT_NAMESPACE, FunctionKey, FunctionRef, LayerName, NamespaceName, Qualifier,
};
use model::layer::LayerKey;

use super::Global;
use super::failure::CliError;
use super::screen::Screen;
use crate::client::aliases::AliasKey;
use crate::client::{Client, DEFAULT_URL};
use crate::config::environment::Environment;
use crate::package::Source;
use crate::package::manifest::FILE_NAME;

/// See the module.
#[derive(Debug)]
pub(crate) struct Context {
    /// Variables of the process.
    pub env: Environment,
    /// Where results and words go.
    pub screen: Screen,
    global: Global,
}

impl Context {
    pub(super) fn new(env: Environment, screen: Screen, global: Global) -> Self {
        Self { env, screen, global }
    }

    fn global<'a>(&'a self, flag: Option<&'a String>, variable: &str) -> Option<&'a str> {
        flag.map(String::as_str).or_else(|| self.env.get(variable))
    }

    /// The daemon's address, if the person gave one.
    pub(crate) fn given_url(&self) -> Option<&str> {
        self.global(self.global.url.as_ref(), "HANSHU_URL")
    }

    /// A client of the daemon that the person means.
    pub(crate) fn client(&self) -> Result<Client, CliError> {
        let url = self.given_url().unwrap_or(DEFAULT_URL);
        Client::new(url, self.global(self.global.key.as_ref(), "HANSHU_KEY"))?
            .because(self.global(self.global.reason.as_ref(), "HANSHU_REASON"))
    }

    /// The namespace that the person works in.
    pub(crate) fn namespace(&self) -> Result<NamespaceName, CliError> {
        let name = self.global(self.global.namespace.as_ref(), "HANSHU_NAMESPACE");
        Ok(name.unwrap_or(DEFAULT_NAMESPACE).parse::<NamespaceName>()?)
    }

    /// A function in that namespace.
    pub(crate) fn function(&self, name: &str) -> Result<FunctionKey, CliError> {
        let target = self.target(name, None)?;
        match target.qualifier {
            Qualifier::Latest if !name.contains(':') => Ok(target.key),
            _ => Err(CliError::new(format!("'{name}' is not valid: expected a function's name"))),
        }
    }

    /// A published version in that namespace, given as `NAME:VERSION`.
    pub(crate) fn version(&self, text: &str) -> Result<(FunctionKey, u64), CliError> {
        let FunctionRef { key, qualifier } = self.target(text, None)?;
        match qualifier {
            Qualifier::Version(number) => Ok((key, number)),
            _ => Err(CliError::new(format!(
                "'{text}' names no published version: expected NAME:VERSION, for instance {}:3",
                key.name
            ))
            .hint(format!("see them with `hanshu versions {}`", key.name))),
        }
    }

    /// An alias in that namespace, given as `NAME:ALIAS`, or as `ALIAS` of the function whose folder this is.
    pub(crate) fn alias(&self, text: &str) -> Result<AliasKey, CliError> {
        self.alias_in(text, Path::new("."))
    }

    fn alias_in(&self, text: &str, folder: &Path) -> Result<AliasKey, CliError> {
        let target = if text.contains(':') {
            self.target(text, None)?
        } else {
            self.target(&folder_function(folder, text)?, Some(text))?
        };
        match target.qualifier {
            Qualifier::Alias(name) => Ok(AliasKey { function: target.key, name }),
            _ => Err(CliError::new(format!("'{text}' names no alias: expected NAME:ALIAS"))
                .hint("an alias's name has letters, digits, '-' or '_', and not digits alone")),
        }
    }

    /// A layer in that namespace.
    pub(crate) fn layer(&self, name: &str) -> Result<LayerKey, CliError> {
        Ok(LayerKey { namespace: self.namespace()?, name: name.parse::<LayerName>()? })
    }

    /// A layer in that namespace, with what stands behind its colon: `NAME:VERSION` or `NAME:ALIAS`.
    pub(crate) fn layer_at(&self, text: &str) -> Result<(LayerKey, Qualifier), CliError> {
        let expected = "expected NAME:VERSION or NAME:ALIAS";
        let (name, at) = text
            .split_once(':')
            .ok_or_else(|| CliError::new(format!("'{text}' is not valid: {expected}")))?;
        match at.parse::<Qualifier>()? {
            Qualifier::Latest => Err(CliError::new(format!("a layer has no '{at}': {expected}"))),
            qualifier => Ok((self.layer(name)?, qualifier)),
        }
    }

    /// A function in that namespace, given as `NAME` or `NAME:QUALIFIER`, or with the qualifier apart.
    pub(crate) fn target(
        &self,
        name: &str,
        qualifier: Option<&str>,
    ) -> Result<FunctionRef, CliError> {
        let mut target = FunctionRef::parse(self.namespace()?.as_str(), name)?;
        if let Some(qualifier) = qualifier {
            if name.contains(':') {
                return Err(CliError::new(format!(
                    "'{name}' and --qualifier {qualifier} both name a version: expected one of them"
                )));
            }
            target.qualifier = qualifier.parse::<Qualifier>()?;
        }
        Ok(target)
    }
}

/// The function that a folder's `hanshu.toml` is of; `alias` is what was given without a function.
fn folder_function(folder: &Path, alias: &str) -> Result<String, CliError> {
    let hint = format!("name the function: NAME:{alias}");
    if !folder.join(FILE_NAME).is_file() {
        return Err(CliError::new(format!(
            "'{alias}' names no function, and there is no {FILE_NAME} in this folder"
        ))
        .hint(hint));
    }
    let source = Source::at(folder)?;
    let manifest = source.manifest().map_err(|e| CliError::new(format!("{e:#}")).hint(hint))?;
    Ok(manifest.name.unwrap_or_else(|| source.default_name()))
}

#[cfg(test)]
mod tests {
    use super::super::screen::Format;
    use super::*;

    fn context(env: &[(&str, &str)], global: Global) -> Context {
        let env = Environment::of(env);
        let screen = Screen::detect(Format::Text, &env);
        Context::new(env, screen, global)
    }

    #[test]
    fn flags_beat_variables_beat_defaults() {
        assert_eq!(context(&[], Global::default()).client().unwrap().base(), DEFAULT_URL);
        let env = [("HANSHU_URL", "http://a:1/"), ("HANSHU_NAMESPACE", "team")];
        let cx = context(&env, Global::default());
        assert_eq!(cx.client().unwrap().base(), "http://a:1");
        assert_eq!(cx.namespace().unwrap().as_str(), "team");
        let global = Global { url: Some("http://b:2".into()), ..Global::default() };
        assert_eq!(context(&env, global).client().unwrap().base(), "http://b:2");
    }

    #[test]
    fn versions_aliases_and_layers_are_named_with_their_owner() {
        let cx = context(&[], Global::default());
        assert_eq!(cx.version("f:3").unwrap().1, 3);
        for bad in ["f", "f:live", "f:$LATEST"] {
            assert!(cx.version(bad).unwrap_err().to_string().contains("NAME:VERSION"), "{bad}");
        }
        assert_eq!(cx.alias("f:live").unwrap().to_string(), "f:live");
        assert!(cx.alias("f:3").unwrap_err().to_string().contains("NAME:ALIAS"));
        assert_eq!(cx.function("f").unwrap().to_string(), "default/f");
        for bad in ["f:3", "f:$LATEST"] {
            assert!(cx.function(bad).unwrap_err().to_string().contains("function's name"), "{bad}");
        }
        assert_eq!(cx.layer_at("l:3").unwrap().1, Qualifier::Version(3));
        cx.layer_at("l").unwrap_err();
        cx.layer_at("l:$LATEST").unwrap_err();
    }

    #[test]
    fn an_alias_alone_is_of_the_folders_function() {
        let cx = context(&[], Global::default());
        let dir = tempfile::tempdir().unwrap();
        let e = cx.alias_in("live", dir.path()).unwrap_err();
        assert_eq!(e.hint_text(), Some("name the function: NAME:live"));
        std::fs::write(dir.path().join(FILE_NAME), "name = 'hello'").unwrap();
        assert_eq!(cx.alias_in("live", dir.path()).unwrap().to_string(), "hello:live");
        assert!(cx.alias_in("7", dir.path()).unwrap_err().to_string().contains("no alias"));
    }

    #[test]
    fn a_version_is_named_once() {
        let cx = context(&[], Global::default());
        assert_eq!(cx.target("f:3", None).unwrap().to_string(), "default/f:3");
        assert_eq!(cx.target("f", Some("live")).unwrap().to_string(), "default/f:live");
        cx.target("f:3", Some("live")).unwrap_err();
        cx.target("f", Some("a b")).unwrap_err();
    }
}
