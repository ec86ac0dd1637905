//! Loaded code, linked to what the host gives: ready for instances.

use std::fmt;

use model::invocation::Failure;
use wasmtime::InstancePre;
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use super::compiled::Code;
use super::failure::not_linked;
use super::host::{CommandHost, Host};
use super::machine::Machine;

/// The function of a core module that is its program (WASI preview 1, "command").
pub(super) const START: &str = "_start";

/// The kinds of programs.
pub(super) enum Program {
    /// A core module for WASI preview 1: event on standard input, answer on standard output.
    Command(InstancePre<CommandHost>),
    /// A component of the world `wasi:cli/command` 0.2: the same.
    Run(CommandPre<Host>),
    /// A component of the world `wasi:http/proxy` 0.2.
    Proxy(ProxyPre<Host>),
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Command(_) => "Command",
            Self::Run(_) => "Run",
            Self::Proxy(_) => "Proxy",
        })
    }
}

impl Program {
    /// Links it; what it lacks, or wants and cannot have, is its own fault.
    pub(super) fn link(machine: &Machine, code: &Code) -> Result<Self, Failure> {
        let words = |e: wasmtime::Error| not_linked(&format!("{e:#}"));
        match code {
            Code::Module(module) => {
                let starts = module.get_export(START).is_some_and(|export| export.func().is_some());
                if !starts {
                    return Err(not_linked(
                        "it exports no function '_start': expected a WASI command, not a library",
                    ));
                }
                machine.commands.instantiate_pre(module).map(Self::Command).map_err(words)
            }
            Code::Component(component) => {
                let linked = machine.components.instantiate_pre(component).map_err(words)?;
                if let Ok(proxy) = ProxyPre::new(linked.clone()) {
                    return Ok(Self::Proxy(proxy));
                }
                CommandPre::new(linked).map(Self::Run).map_err(|_| {
                    not_linked(
                        "it is no component of the worlds wasi:http/proxy or wasi:cli/command 0.2",
                    )
                })
            }
        }
    }
}
