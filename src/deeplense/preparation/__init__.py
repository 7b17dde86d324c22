"""What a training needs before its first step: options that fit its task, images, a network, a record."""
