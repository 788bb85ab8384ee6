//! Names of enum values, as people write them: `AES_256`, `aes-256`, `key-admin`.

use twinkeep_client::v1;

/// An enum of the protocol with its prefix.
pub(crate) trait Named: Sized + Copy + TryFrom<i32> + 'static {
    /// What the protocol's names open with.
    const PREFIX: &'static str;
    /// What it is, for a person.
    const WHAT: &'static str;

    /// Returns the value of a protocol name.
    fn of_protocol(name: &str) -> Option<Self>;

    /// Returns the protocol name.
    fn protocol(&self) -> &'static str;

    /// Returns the name without the prefix; `UNKNOWN` for a number of a later version.
    fn name(number: i32) -> &'static str {
        Self::try_from(number).map_or("UNKNOWN", |value| value.short())
    }

    /// Returns the name without the prefix.
    fn short(&self) -> &'static str {
        let name = self.protocol();
        name.strip_prefix(Self::PREFIX).unwrap_or(name)
    }

    /// Reads a name in any case, with `-` or `_`. The error lists all names.
    fn parse(text: &str) -> Result<Self, String> {
        let name = text.to_uppercase().replace('-', "_");
        Self::of_protocol(&format!("{}{name}", Self::PREFIX))
            .filter(|_| name != "UNSPECIFIED")
            .ok_or_else(|| format!("`{text}` is no {}; there are {}", Self::WHAT, Self::all()))
    }

    /// Lists all names.
    fn all() -> String {
        // Values are numbered from 1 without a gap wider than this; zero is a forgotten field.
        let values = (1..64).filter_map(|number| Self::try_from(number).ok());
        values.map(|value| value.short()).collect::<Vec<_>>().join(", ")
    }
}

macro_rules! named {
    ($($name:ident $prefix:literal $what:literal;)*) => {$(
        impl Named for v1::$name {
            const PREFIX: &'static str = $prefix;
            const WHAT: &'static str = $what;

            fn of_protocol(name: &str) -> Option<Self> {
                Self::from_str_name(name)
            }

            fn protocol(&self) -> &'static str {
                self.as_str_name()
            }
        }
    )*};
}

named! {
    KeySpec "KEY_SPEC_" "key spec";
    KeyUsage "KEY_USAGE_" "key usage";
    KeyState "KEY_STATE_" "key state";
    Algorithm "ALGORITHM_" "algorithm";
    Role "ROLE_" "role";
    NodeRole "NODE_ROLE_" "node role";
    Standing "STANDING_" "standing";
    InstanceType "INSTANCE_TYPE_" "instance type";
    InstanceStatus "INSTANCE_STATUS_" "instance status";
    Durability "DURABILITY_" "durability";
    ReplicationMode "REPLICATION_MODE_" "replication mode";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_people_write_them() {
        for text in ["EC_P256", "ec-p256", "Ec_P256"] {
            assert_eq!(v1::KeySpec::parse(text), Ok(v1::KeySpec::EcP256));
        }
        assert_eq!(v1::Role::parse("key-admin"), Ok(v1::Role::KeyAdmin));
        assert_eq!(v1::KeySpec::name(1), "AES_256");
        assert_eq!(v1::KeySpec::name(999), "UNKNOWN");
    }

    #[test]
    fn unknown_name_is_answered_with_all_names() {
        let error = v1::KeyUsage::parse("signing").unwrap_err();
        assert_eq!(
            error,
            "`signing` is no key usage; there are ENCRYPT_DECRYPT, SIGN_VERIFY, GENERATE_VERIFY_MAC"
        );
        assert!(v1::KeyUsage::parse("unspecified").is_err());
        assert!(v1::KeyUsage::parse("").is_err());
    }
}
