//! Names of users and groups, as the server's host knows them.

use std::collections::BTreeMap;

/// Names that are looked up for one report, at most: where a directory service answers each question, more
/// would take minutes.
pub(super) const LOOKUPS_MAX: usize = 1000;

/// Says what owners and groups are called.
pub(super) trait Names {
    /// The user's name.
    fn user(&self, uid: u32) -> Option<String>;
    /// The group's name.
    fn group(&self, gid: u32) -> Option<String>;
}

/// Asks the system.
#[derive(Clone, Copy, Debug)]
pub(super) struct SystemNames;

impl Names for SystemNames {
    fn user(&self, uid: u32) -> Option<String> {
        let user = nix::unistd::User::from_uid(uid.into()).ok()??;
        Some(user.name)
    }

    fn group(&self, gid: u32) -> Option<String> {
        let group = nix::unistd::Group::from_gid(gid.into()).ok()??;
        Some(group.name)
    }
}

/// The names of the first [`LOOKUPS_MAX`] ids.
pub(super) fn look_up(
    ids: impl Iterator<Item = u32>,
    name: impl Fn(u32) -> Option<String>,
) -> BTreeMap<u32, String> {
    let named = |id| name(id).map(|name| (id, name));
    ids.take(LOOKUPS_MAX).filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_knows_root_and_not_everybody() {
        assert_eq!(SystemNames.user(0).as_deref(), Some("root"));
        assert_eq!(SystemNames.group(0).as_deref(), Some("root"));
        assert_eq!(SystemNames.user(u32::MAX - 7), None);
    }
}
