# One address for clients, which leads to the nodes that say they are ready.

resource "aws_lb" "clients" {
  #checkov:skip=CKV_AWS_91:access logs need a bucket, which is for who runs the account to decide
  #checkov:skip=CKV_AWS_150:it holds nothing, and can be made again
  name                             = var.name
  internal                         = true
  load_balancer_type               = "network"
  subnets                          = aws_subnet.nodes[*].id
  enable_cross_zone_load_balancing = true
  tags                             = local.tags
}

resource "aws_lb_target_group" "clients" {
  for_each = local.client_ports
  name     = "${var.name}-${each.key}"
  port     = each.value
  protocol = "TCP"
  vpc_id   = aws_vpc.this.id
  tags     = local.tags
  # A node that stops ends within ten seconds.
  deregistration_delay = 30
  health_check {
    protocol            = "HTTP"
    path                = "/readyz"
    port                = "7402"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

locals {
  client_ports = { grpc = 7400, pg = 7432 }
  targets = { for pair in setproduct(keys(local.client_ports), range(var.node_count)) :
    "${pair[0]}-${pair[1]}" => { port = pair[0], index = pair[1] }
  }
}

resource "aws_lb_target_group_attachment" "clients" {
  for_each         = local.targets
  target_group_arn = aws_lb_target_group.clients[each.value.port].arn
  target_id        = aws_instance.node[each.value.index].id
  port             = local.client_ports[each.value.port]
}

resource "aws_lb_listener" "clients" {
  #checkov:skip=CKV_AWS_2:the nodes speak no TLS yet
  #checkov:skip=CKV_AWS_103:the nodes speak no TLS yet
  for_each          = local.client_ports
  load_balancer_arn = aws_lb.clients.arn
  port              = each.value
  protocol          = "TCP"
  tags              = local.tags
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.clients[each.key].arn
  }
}
