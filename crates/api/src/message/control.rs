//! Messages of the services that manage.

use super::{answer, request};

request!(CreateKeyRequest, |m, a| a.instance(&m.instance_id));
answer!(CreateKeyResponse);
request!(DescribeKeyRequest, |m, a| a.key(&m.key_id));
answer!(DescribeKeyResponse);
request!(ListKeysRequest, |m, a| a.instance(&m.instance_id));
answer!(ListKeysResponse);
request!(EnableKeyRequest, |m, a| a.key(&m.key_id));
answer!(EnableKeyResponse);
request!(DisableKeyRequest, |m, a| a.key(&m.key_id));
answer!(DisableKeyResponse);
request!(UpdateKeyDescriptionRequest, |m, a| a.key(&m.key_id));
answer!(UpdateKeyDescriptionResponse);

request!(CreateInstanceRequest, |_m, _a| ());
answer!(CreateInstanceResponse);
request!(DescribeInstanceRequest, |m, a| a.instance(&m.instance_id));
answer!(DescribeInstanceResponse);
request!(ListInstancesRequest, |_m, _a| ());
answer!(ListInstancesResponse);

request!(IssueCallerCertificateRequest, |m, a| a.caller(&m.caller));
answer!(IssueCallerCertificateResponse);
request!(GrantRolesRequest, |m, a| a.caller(&m.caller));
answer!(GrantRolesResponse);
request!(RevokeRolesRequest, |m, a| a.caller(&m.caller));
answer!(RevokeRolesResponse);
request!(ListRoleBindingsRequest, |_m, _a| ());
answer!(ListRoleBindingsResponse);

request!(GetStatusRequest, |_m, _a| ());
answer!(GetStatusResponse);
request!(DiagnoseRequest, |_m, _a| ());
answer!(DiagnoseResponse);
request!(ListMembersRequest, |_m, _a| ());
answer!(ListMembersResponse);
request!(WatchTopologyRequest, |_m, _a| ());
answer!(WatchTopologyResponse);
request!(AdmitNodeRequest, |_m, _a| ());
answer!(AdmitNodeResponse);
request!(PromoteNodesRequest, |m, a| m.node_ids.iter().for_each(|id| a.node(*id)));
answer!(PromoteNodesResponse);
request!(RemoveNodeRequest, |m, a| a.node(m.node_id));
answer!(RemoveNodeResponse);
request!(UnsealRequest, |_m, _a| (), wiping share, passphrase);
answer!(UnsealResponse);
request!(SealRequest, |_m, _a| ());
answer!(SealResponse);
request!(DrainZoneRequest, |_m, _a| ());
answer!(DrainZoneResponse);
request!(UndrainZoneRequest, |_m, _a| ());
answer!(UndrainZoneResponse);
request!(PreferZoneRequest, |_m, _a| ());
answer!(PreferZoneResponse);

request!(TailAuditRequest, |_m, _a| ());
answer!(TailAuditResponse);
