output "user_data" {
  description = "Text to give to a machine at its first boot."
  value       = local.user_data
}
