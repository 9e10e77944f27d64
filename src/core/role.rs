//! A role: what the holder of a token may have the gateway do.

/// Each role may all that the ones before it may. The codes are on disk: never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Role {
    /// May look at everything, the bodies of events too: without them nothing can be found out.
    Read = 1,
    /// May change what becomes of events: pause, resume, replay, cancel, take in.
    Operate = 2,
    /// May say who may do what.
    Admin = 3,
}

impl Role {
    /// Every role, from the one that may least.
    pub const ALL: [Self; 3] = [Self::Read, Self::Operate, Self::Admin];

    /// Whether it may what `needed` may.
    #[must_use]
    pub fn may(self, needed: Self) -> bool {
        self >= needed
    }

    /// The word used in the API, the CLI and the files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }

    /// The role with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// The role with this code on disk.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|role| *role as u8 == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_what_those_before_it_may() {
        for (place, role) in Role::ALL.into_iter().enumerate() {
            for (other_place, other) in Role::ALL.into_iter().enumerate() {
                assert_eq!(role.may(other), place >= other_place);
            }
            assert_eq!(Role::from_name(role.as_str()), Some(role));
            assert_eq!(Role::from_code(role as u8), Some(role));
        }
        assert_eq!(Role::from_name("root"), None);
        assert_eq!(Role::from_code(0), None);
    }
}
