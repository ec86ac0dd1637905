//! What every command needs: the environment, the screen, and how to reach the daemon.

use model::ids::{DEFAULT_NAMESPACE, FunctionName, FunctionRef, NamespaceName};

use super::Global;
use super::failure::CliError;
use super::screen::Screen;
use crate::client::{Client, DEFAULT_URL};
use crate::config::environment::Environment;

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
        Client::new(url, self.global(self.global.key.as_ref(), "HANSHU_KEY"))
    }

    /// The namespace that the person works in.
    pub(crate) fn namespace(&self) -> Result<NamespaceName, CliError> {
        let name = self.global(self.global.namespace.as_ref(), "HANSHU_NAMESPACE");
        Ok(name.unwrap_or(DEFAULT_NAMESPACE).parse::<NamespaceName>()?)
    }

    /// A function in that namespace.
    pub(crate) fn function(&self, name: &str) -> Result<(NamespaceName, FunctionName), CliError> {
        Ok((self.namespace()?, name.parse::<FunctionName>()?))
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
            target.qualifier = qualifier.parse::<model::ids::Qualifier>()?;
        }
        Ok(target)
    }
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
    fn a_version_is_named_once() {
        let cx = context(&[], Global::default());
        assert_eq!(cx.target("f:3", None).unwrap().to_string(), "default/f:3");
        assert_eq!(cx.target("f", Some("live")).unwrap().to_string(), "default/f:live");
        cx.target("f:3", Some("live")).unwrap_err();
        cx.target("f", Some("a b")).unwrap_err();
    }
}
