//! Memberships: voter sets (two during a change) and the first address of every node.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

use super::{Malformed, checked};
use crate::types::{Contact, Membership};

/// Most voter sets: a joint membership has two.
const SETS_MAX: u64 = 2;
/// Most nodes, learners included.
const NODES_MAX: u64 = 256;

/// Returns the bytes of a membership.
pub(crate) fn encode_membership(members: &Membership) -> Vec<u8> {
    let mut out = Encoder::new(Vec::new());
    write(&mut out, members).expect("writing to a Vec cannot fail");
    out.into_writer()
}

type WriteResult = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

fn write(out: &mut Encoder<Vec<u8>>, members: &Membership) -> WriteResult {
    let sets = members.get_joint_config();
    out.array(2)?.array(sets.len() as u64)?;
    for set in sets {
        out.array(set.len() as u64)?;
        for voter in set {
            out.u64(*voter)?;
        }
    }
    out.map(members.nodes().count() as u64)?;
    for (node, contact) in members.nodes() {
        out.u64(*node)?.str(&contact.address)?;
    }
    Ok(())
}

/// Reads a membership.
///
/// # Errors
/// [`Malformed`] when the bytes are none, a limit is passed, a voter has no address, or a voter set
/// is empty.
pub(crate) fn decode_membership(bytes: &[u8]) -> Result<Membership, Malformed> {
    let mut input = Decoder::new(bytes);
    let members = read(&mut input)?;
    if input.position() != bytes.len() {
        return Err(malformed("it goes on after its end"));
    }
    Ok(members)
}

const fn malformed(why: &'static str) -> Malformed {
    Malformed::new("membership", why)
}

fn read(input: &mut Decoder<'_>) -> Result<Membership, Malformed> {
    if length(input, 2)? != 2 {
        return Err(malformed("it has not two parts"));
    }
    let mut sets = Vec::new();
    for _ in 0..length(input, SETS_MAX)? {
        let mut set = BTreeSet::new();
        for _ in 0..length(input, NODES_MAX)? {
            set.insert(number(input)?);
        }
        sets.push(set);
    }
    let nodes = read_nodes(input)?;
    // A membership without a voter set is what a node has before its first entry.
    Membership::new(sets, nodes).map_err(|_| malformed("a voter set is empty or a voter unknown"))
}

fn read_nodes(input: &mut Decoder<'_>) -> Result<BTreeMap<u64, Contact>, Malformed> {
    let count = match input.map() {
        Ok(Some(count)) if count <= NODES_MAX => count,
        _ => return Err(malformed("its nodes are no map within the limit")),
    };
    let mut nodes = BTreeMap::new();
    for _ in 0..count {
        let node = number(input)?;
        let address = input.str().map_err(|_| malformed("an address is no text"))?;
        if address.len() > Contact::ADDRESS_LEN_MAX {
            return Err(malformed("an address is too long"));
        }
        nodes.insert(node, Contact::new(address));
    }
    Ok(nodes)
}

fn length(input: &mut Decoder<'_>, max: u64) -> Result<u64, Malformed> {
    match input.array() {
        Ok(Some(length)) if length <= max => Ok(length),
        _ => Err(malformed("an array is missing or too long")),
    }
}

fn number(input: &mut Decoder<'_>) -> Result<u64, Malformed> {
    match input.datatype() {
        Ok(Type::U8 | Type::U16 | Type::U32 | Type::U64) => {
            let number = input.u64().map_err(|_| malformed("a node id is no number"))?;
            checked(number, "membership")
        }
        _ => Err(malformed("a node id is no number")),
    }
}
