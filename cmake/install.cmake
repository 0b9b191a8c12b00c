# SPDX-License-Identifier: Apache-2.0
# make install: header, shared library, operator library, command, pkg-config and CMake package files,
# man page; relocatable into any prefix.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# ONNX Runtime out of .deps or ONNXRUNTIME_ROOT is not on the loader's path: installed programs find it
# beside themselves, where it is installed too. A system library needs neither.
get_filename_component(ORT_REAL ${OnnxRuntime_LIBRARY} REALPATH)
get_filename_component(ORT_DIR ${ORT_REAL} DIRECTORY)
set(KVERN_INSTALLED_TARGETS kvern kvern_ops_library)
if(TARGET kvern_command)
    list(APPEND KVERN_INSTALLED_TARGETS kvern_command)
endif()
if(NOT ORT_DIR MATCHES "^/usr/lib")
    file(GLOB ORT_FILES ${ORT_DIR}/libonnxruntime.so*)
    install(FILES ${ORT_FILES} DESTINATION ${CMAKE_INSTALL_LIBDIR}/kvern)
    set_target_properties(kvern kvern_ops_library PROPERTIES INSTALL_RPATH "$ORIGIN/kvern")
    if(TARGET kvern_command)
        set_target_properties(kvern_command PROPERTIES
            INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR};$ORIGIN/../${CMAKE_INSTALL_LIBDIR}/kvern")
    endif()
    set(KVERN_PC_RPATH "-Wl,-rpath-link,\${libdir}/kvern -Wl,-rpath,\${libdir}")
else()
    set(KVERN_PC_RPATH "")
endif()

install(TARGETS kvern EXPORT kvern LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS kvern_ops_library LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET kvern_command)
    install(TARGETS kvern_command RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(FILES include/kvern.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES docs/kvern.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)

install(EXPORT kvern NAMESPACE kvern:: FILE kvern-targets.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/kvern)
file(WRITE ${CMAKE_BINARY_DIR}/kvern-config.cmake
     "include(\${CMAKE_CURRENT_LIST_DIR}/kvern-targets.cmake)\n")
write_basic_package_version_file(${CMAKE_BINARY_DIR}/kvern-config-version.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/kvern-config.cmake ${CMAKE_BINARY_DIR}/kvern-config-version.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/kvern)
file(RELATIVE_PATH KVERN_PC_TO_PREFIX /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(cmake/kvern.pc.in ${CMAKE_BINARY_DIR}/kvern.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/kvern.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
