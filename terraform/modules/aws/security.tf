# Who reaches which port.

resource "aws_security_group" "node" {
  name        = "${var.name}-node"
  description = "Nodes of the cluster ${var.name}"
  vpc_id      = aws_vpc.this.id
  tags        = merge(local.tags, { Name = "${var.name}-node" })
}

resource "aws_security_group_rule" "peers" {
  description       = "Nodes to nodes"
  type              = "ingress"
  from_port         = 7401
  to_port           = 7401
  protocol          = "tcp"
  self              = true
  security_group_id = aws_security_group.node.id
}

# Nodes of other sites ask each other, and forward what clients ask them.
resource "aws_security_group_rule" "sites" {
  count             = length(var.peer_cidrs) == 0 ? 0 : 1
  description       = "Nodes of other sites to nodes"
  type              = "ingress"
  from_port         = 7401
  to_port           = 7401
  protocol          = "tcp"
  cidr_blocks       = var.peer_cidrs
  security_group_id = aws_security_group.node.id
}

resource "aws_security_group_rule" "clients" {
  for_each          = { client = 7400, health = 7402, postgresql = 7432 }
  description       = "To the port ${each.key}"
  type              = "ingress"
  from_port         = each.value
  to_port           = each.value
  protocol          = "tcp"
  cidr_blocks       = concat([var.cidr], var.client_cidrs)
  security_group_id = aws_security_group.node.id
}

resource "aws_security_group_rule" "administrator" {
  count             = var.ssh_public_key == "" ? 0 : 1
  description       = "Administrator, from within the networks"
  type              = "ingress"
  from_port         = 22
  to_port           = 22
  protocol          = "tcp"
  cidr_blocks       = concat([var.cidr], var.client_cidrs)
  security_group_id = aws_security_group.node.id
}

resource "aws_security_group_rule" "out" {
  #checkov:skip=CKV_AWS_382:packages and other sites are reached by way of the gateway
  description       = "Out"
  type              = "egress"
  from_port         = 0
  to_port           = 0
  protocol          = "-1"
  cidr_blocks       = ["0.0.0.0/0"]
  security_group_id = aws_security_group.node.id
}
