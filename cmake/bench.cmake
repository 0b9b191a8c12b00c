# SPDX-License-Identifier: Apache-2.0
# bench/<name>_kernels.c: one program each, timing kernels alone; built on request only.
add_executable(bench_linear_kernels EXCLUDE_FROM_ALL bench/linear_kernels.c)
target_include_directories(bench_linear_kernels PRIVATE src include)
kvern_link(bench_linear_kernels base ops)
