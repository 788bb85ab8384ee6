//! The table of methods with their permissions.

use std::fmt::Write as _;

use protox::prost_reflect::{DescriptorPool, MethodDescriptor, Value};

const HEAD: &str = r#"use super::Permission;

/// One call of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// Its place in [`ALL`]. Nothing stored or sent: it may change with every version.
    pub index: usize,
    /// The path of its requests: `/twinkeep.v1.KeyService/CreateKey`.
    pub path: &'static str,
    /// The service, without its package: `KeyService`.
    pub service: &'static str,
    /// The call: `CreateKey`.
    pub name: &'static str,
    /// What a caller must be allowed to do.
    pub permission: Permission,
    /// Whether the request is a stream.
    pub client_streaming: bool,
    /// Whether the answer is a stream.
    pub server_streaming: bool,
}
"#;

/// Writes the table, or says which method declares no permission.
pub(crate) fn source(pool: &DescriptorPool, package: &str) -> Result<String, String> {
    let of_package = pool.services().filter(|service| service.package_name() == package);
    let methods: Vec<_> =
        of_package.flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
    let mut out = HEAD.to_owned();
    let mut all = String::new();
    for (index, method) in methods.iter().enumerate() {
        let (constant, service) = (constant(method), method.parent_service().name().to_owned());
        let (name, permission) = (method.name(), permission(pool, method)?);
        let path = format!("/{package}.{service}/{name}");
        let (asking, answering) = (method.is_client_streaming(), method.is_server_streaming());
        write!(
            out,
            "\n/// `{service}.{name}`.
pub const {constant}: Method = Method {{
    index: {index},
    path: \"{path}\",
    service: \"{service}\",
    name: \"{name}\",
    permission: Permission::{permission},
    client_streaming: {asking},
    server_streaming: {answering},
}};
"
        )
        .expect("a string grows");
        writeln!(all, "    {constant},").expect("a string grows");
    }
    write!(out, "\n/// All calls of the package.\npub const ALL: &[Method] = &[\n{all}];\n")
        .expect("a string grows");
    Ok(out)
}

fn permission(pool: &DescriptorPool, method: &MethodDescriptor) -> Result<String, String> {
    let option = crate::option(pool, "permission")?;
    let options = method.options();
    let number = match options.get_extension(&option).as_ref() {
        Value::EnumNumber(number) if *number != 0 => *number,
        _ => return Err(format!("{} declares no permission", method.full_name())),
    };
    let kind = option.kind();
    let value = kind.as_enum().and_then(|set| set.get_value(number));
    let value = value.ok_or_else(|| format!("{}: unknown permission", method.full_name()))?;
    let bare = value.name().trim_start_matches("PERMISSION_");
    Ok(bare.split('_').map(capitalised).collect())
}

fn capitalised(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_owned() + &rest.to_lowercase()
}

/// `KeyService.CreateKey` is `CREATE_KEY`: the names of calls are unique in the package.
fn constant(method: &MethodDescriptor) -> String {
    let mut out = String::new();
    for letter in method.name().chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_uppercase());
    }
    out
}
