//! Which limits control groups keep here, as lines of the host's table.

use model::isolation::{Feature, Need};

use super::{Groups, Layout};

const MEMORY: &str = "memory is limited for each process alone, by rlimit, 192 MiB above the function's limit; /tmp and /dev/shm are not counted";
const PROCESSES: &str = "processes are limited by rlimit alone, for all of a user's together";
const FREEZE: &str =
    "an idle function that sets out to can go on: the kernel lets it, by a timer with SIGCONT";
const CPU: &str = "a busy function takes processor time from all others";

impl Groups {
    /// Memory, processes and processor time: which mechanism limits them, or why none does.
    pub(crate) fn features(&self) -> [Feature; 3] {
        let (memory, processes, cpu) = match &self.layout {
            Layout::V2 { cpu, pids, .. } => (Ok(2), controller(*pids, 2), controller(*cpu, 2)),
            Layout::V1 { pids, cpu, .. } => {
                (Ok(1), controller(pids.is_some(), 1), controller(cpu.is_some(), 1))
            }
            Layout::None { reason } => (Err(reason), Err(reason.clone()), Err(reason.clone())),
        };
        let memory = match memory {
            Ok(version) => Ok(format!(
                "control group v{version}: all of an instance, /tmp and kernel memory included, no swap"
            )),
            Err(reason) => Err(format!("rlimit for each process alone: {reason}")),
        };
        let processes = match processes {
            Ok(group) => Ok(format!("{group} and rlimit")),
            Err(reason) => Err(format!("rlimit alone: {reason}")),
        };
        [
            Feature::of("memory", Need::Isolation, memory, MEMORY),
            Feature::of("processes", Need::Isolation, processes, PROCESSES),
            Feature::of(
                "cpu",
                Need::Isolation,
                cpu.map(|g| format!("{g}: a weight, and a ceiling where one is set")),
                CPU,
            ),
        ]
    }

    /// What idle instances are frozen by.
    pub(crate) fn freezing(&self) -> Feature {
        let found = match &self.layout {
            Layout::V2 { .. } | Layout::V1 { freezer: Some(_), .. } => {
                Ok("idle instances stand still by control group v2".to_owned())
            }
            _ => Err("by signals alone: no version 2 control group can be made".to_owned()),
        };
        Feature::of("freeze", Need::Option, found, FREEZE)
    }
}

fn controller(there: bool, version: u8) -> Result<String, String> {
    if there {
        Ok(format!("control group v{version}"))
    } else {
        Err(format!("control group v{version} has no controller for it that the daemon may use"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn features(layout: Layout) -> [(bool, String); 3] {
        // Nothing is made at these paths, so dropping the groups removes nothing.
        Groups::new(layout).features().map(|f| (f.available, f.detail))
    }

    #[test]
    fn each_version_says_what_it_limits() {
        let parent = PathBuf::from("/nonexistent");
        let [memory, processes, cpu] =
            features(Layout::V2 { parent: parent.clone(), cpu: true, pids: true });
        assert_eq!(
            memory,
            (
                true,
                "control group v2: all of an instance, /tmp and kernel memory included, no swap"
                    .into()
            )
        );
        assert_eq!(processes, (true, "control group v2 and rlimit".into()));
        assert_eq!(
            cpu,
            (true, "control group v2: a weight, and a ceiling where one is set".into())
        );
        let (pids, memory) = (Some(parent.clone()), parent);
        let [memory, processes, cpu] =
            features(Layout::V1 { memory, pids, cpu: None, freezer: None });
        assert!(memory.0 && memory.1.contains("v1") && processes.0, "{memory:?} {processes:?}");
        assert!(!cpu.0 && cpu.1.contains("no controller"), "{cpu:?}");
    }

    #[test]
    fn version_1_freezes_by_a_hierarchy_of_version_2_beside_it() {
        let parent = PathBuf::from("/nonexistent");
        let layout =
            |freezer| Layout::V1 { memory: parent.clone(), pids: None, cpu: None, freezer };
        assert!(Groups::new(layout(Some(parent.clone()))).freezing().available);
        let signals = Groups::new(layout(None)).freezing();
        assert!(!signals.available && signals.detail.starts_with("by signals"));
    }

    #[test]
    fn without_groups_each_line_says_why() {
        let groups = Groups::new(Layout::None { reason: "nothing is delegated".into() });
        assert!(!groups.limits_memory());
        for feature in groups.features() {
            assert!(!feature.available && feature.detail.contains("nothing is delegated"));
        }
        assert!(groups.features()[0].detail.starts_with("rlimit for each process alone"));
    }
}
