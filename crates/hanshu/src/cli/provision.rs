//! `hanshu provision`: instances that are kept started.

use std::process::ExitCode;

use clap::Args;
use model::api::ProvisionedView;
use model::provisioned::{Provisioned, Scheduled, Zone};

use super::context::Context;

const AFTER_HELP: &str = "\
A schedule is a cron expression and the number from then on: CRON=INSTANCES. Expressions have five fields, or six with seconds before them, or
seven with a year behind; names of days and months, L, W and # are understood.

Examples:
  hanshu provision hello                     what is kept started, and what of it is there
  hanshu provision hello:live 5
  hanshu provision hello:live 2 --schedule '0 0 8 * * MON-FRI=20' --schedule '0 0 18 * * MON-FRI=2'
  hanshu provision hello:live 2 --schedule '0 0 8 * * MON-FRI=20' --schedule '0 0 18 * * MON-FRI=2' --timezone Europe/Berlin
  hanshu provision hello:live --remove";

/// Keep instances of a version or an alias started.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ProvisionArgs {
    /// The function, with a version or an alias behind it [default: $LATEST]
    #[arg(value_name = "NAME[:QUALIFIER]")]
    target: String,
    /// How many, until the first time of the schedule; without a number: list what there is
    #[arg(conflicts_with = "remove")]
    instances: Option<u32>,
    /// How many from a time on; may be repeated
    #[arg(long, value_name = "CRON=INSTANCES", requires = "instances")]
    schedule: Vec<Scheduled>,
    /// Where the schedule's times are, for instance Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE", requires = "schedule")]
    timezone: Option<Zone>,
    /// Keep none started any more
    #[arg(long)]
    remove: bool,
}

impl ProvisionArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let target = cx.target(&self.target, None)?;
        let client = cx.client()?;
        if self.remove {
            client.unprovision(&target)?;
            cx.screen.note(&format!("no instances are provisioned for {target} any more"));
        } else if let Some(instances) = self.instances {
            let Self { schedule, timezone, .. } = self;
            let wanted = Provisioned { instances, schedule, timezone };
            let view = client.provision(&target, &wanted)?;
            cx.screen.show(&view, |view| {
                format!(
                    "{}:{} keeps {} started, at revision {}",
                    view.function, view.qualifier, view.wanted, view.revision
                )
            })?;
        } else {
            let all = client.provisioned(&target.key)?;
            let head = ["QUALIFIER", "WANTED", "READY", "INSTANCES", "SCHEDULE", "MODIFIED"];
            let none = format!(
                "nothing is provisioned: keep instances started with `hanshu provision {}:live 5`",
                target.key.name
            );
            cx.screen.list(&all, &head, row, &none)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn row(view: &ProvisionedView) -> Vec<String> {
    let zone = view.timezone.iter().map(ToString::to_string);
    let schedule = view.schedule.iter().map(|s| format!("{}={}", s.at, s.instances));
    vec![
        view.qualifier.clone(),
        view.wanted.to_string(),
        view.ready.to_string(),
        view.instances.to_string(),
        schedule.chain(zone).collect::<Vec<_>>().join("; "),
        view.modified_at.clone(),
    ]
}
