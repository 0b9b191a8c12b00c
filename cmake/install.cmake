# SPDX-License-Identifier: Apache-2.0
# make install: filled in once the library has a public surface to install.
